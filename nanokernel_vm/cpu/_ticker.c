// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The native end of Unicorn's hooks: the byte clock, and all the reasons to stop.
 *
 * A Ticker belongs to one engine.  Its hooks run inside uc_emu_start() without the GIL, so
 * they touch nothing but the Ticker.  They never decide anything: they count, note an event
 * and call uc_emu_stop(); Python reads the event when uc_emu_start() has returned.
 *
 * The clock counts bytes of retired instructions.  The block hook adds a whole block in
 * advance, settle() gives back what was not executed; the sum is the same however the
 * translator cuts the code into blocks, so that the clock is a coordinate of the run.
 *
 * An "eligible" entry is one that does not follow its predecessor in memory, a taken
 * transfer of control, or one into another page than its predecessor's, at which every
 * block ends (native/translate.c).  No hook and no stop moves either.  Deadlines count only
 * there: every 4 KiB at the latest.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

#include "native/account.h"
#include "native/stops.h"
#include "native/ticker.h"

/* unicorn/x86.h, enum uc_x86_reg */
#define REG_CS 11
#define REG_EFLAGS 25
#define REG_RAX 35
#define REG_RCX 38
#define REG_RDX 40
#define REG_RIP 41
#define REG_MSR 248
#define MSR_TSC_AUX 0xC0000103

#define PAGE_SHIFT 12

enum event {
	EV_NONE,	/* uc_emu_start() returned by itself: HLT */
	EV_DEADLINE,	/* at an eligible entry, the clock at or past `deadline` */
	EV_PAUSE,	/* at a block that holds the position `pause` */
	EV_INTERRUPT,	/* at a block entry, because another thread asked */
	EV_VECTOR,	/* exception or software interrupt `vector` */
	EV_SYSCALL,	/* a SYSCALL instruction; rip is behind it */
	EV_SYSENTER,	/* a SYSENTER instruction; rip is behind it */
	EV_BREAKPOINT,	/* before the instruction at `address` */
	EV_STEP,	/* before the instruction at `address` */
	EV_WATCH,	/* after an instruction that touched `address` */
};

typedef struct {
	PyObject_HEAD
	struct account account;
	uint64_t asked;		/* entries that on_block() has looked at */
	uint64_t page;		/* of the last block before none was current, by number */
	uint64_t deadline;
	uint64_t pause;
	uint64_t passing;	/* breakpoint to let through once */
	uint64_t address;
	uint64_t watched;	/* 1 + row of a watch that was touched and is not reported */
	uint32_t watched_write;
	enum { NO, NEXT, NOW } alone;	/* whether the block is an instruction run again */
	uint32_t vector;
	uint32_t steps;		/* 1 + instructions to run before EV_STEP; 0: free */
	uint32_t event;
	uint32_t tsc_per_tick;
	volatile uint32_t interrupt;
	struct stops stops;
	void *uc;
	int (*stop)(void *uc);
	int (*reg_read)(void *uc, int reg, void *value);
	int (*reg_write)(void *uc, int reg, const void *value);
} Ticker;


/*
 * Translated code asks at no entry but where the clock comes above the limit.  Another thread
 * sets `interrupt` first and then the limit, this one the other way round.
 */
static void set_limit(Ticker *t)
{
	uint64_t limit = t->deadline < t->pause ? t->deadline : t->pause;

	if (t->steps || t->watched || t->alone || t->stops.aborted)
		limit = 0;
	__atomic_store_n(&t->account.limit, limit, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&t->interrupt, __ATOMIC_SEQ_CST))
		t->account.limit = 0;
}

static bool is_in_block(const Ticker *t)
{
	return t->account.now.start != NOWHERE;
}

/* The current block's end; 0 if there is none. */
static uint64_t end_of_block(const Ticker *t)
{
	return is_in_block(t) ? t->account.now.expect : 0;
}

static uint64_t last_page(const Ticker *t)
{
	return is_in_block(t) ? t->account.now.start >> PAGE_SHIFT : t->page;
}

static void leave_block(Ticker *t)
{
	t->page = last_page(t);
	t->account.now.start = NOWHERE;
}

static void stop(Ticker *t, void *uc, enum event event)
{
	t->account.limit = 0;
	t->alone = NO;
	t->event = event;
	t->stop(uc);
}

/* A stop before the block is counted: the entry stays what it is when it comes again. */
static void stop_uncounted(Ticker *t, void *uc, enum event event)
{
	leave_block(t);
	stop(t, uc, event);
}

/*
 * Code wrote into the block it runs in: the translator has dropped the block, undone the
 * writer and enters it again, alone.  What was noted of the writer is undone, too.
 */
static void undo_writer(Ticker *t, uint64_t address)
{
	t->stops.aborted = false;
	if (address < t->account.now.start || address >= end_of_block(t))
		return;
	t->account.clock -= end_of_block(t) - address;
	t->account.now.expect = address;
	t->watched = 0;
	t->passing = address;
	if (t->steps)
		t->steps++;
}

static int is_eligible(const Ticker *t, uint64_t address)
{
	return address != t->account.now.expect || address >> PAGE_SHIFT != last_page(t);
}

/*
 * A breakpoint comes before a step that ends at it.  It is let pass once where a run begins.
 */
static enum event debug_stop(Ticker *t, uint64_t address)
{
	int stepped = t->steps && --t->steps == 0;
	const struct place *place = t->stops.n ? place_at(&t->stops, address) : NULL;

	if (place && place->armed) {
		if (t->passing != address)
			return EV_BREAKPOINT;
		t->passing = NOWHERE;
	}
	return stepped ? EV_STEP : EV_NONE;
}

static void consider(Ticker *t, void *uc, uint64_t address, uint32_t size)
{
	enum event event;

	if (t->stops.aborted)
		undo_writer(t, address);
	t->alone = t->alone == NEXT && address == t->account.now.expect ? NOW : NO;
	if (t->watched) {
		stop_uncounted(t, uc, EV_WATCH);
		return;
	}
	if (t->interrupt) {
		stop_uncounted(t, uc, EV_INTERRUPT);
		return;
	}
	if (is_eligible(t, address)) {
		if (t->account.clock >= t->deadline) {
			stop_uncounted(t, uc, EV_DEADLINE);
			return;
		}
		t->account.now.origin = t->account.clock;
	}
	if (t->account.clock + size > t->pause) {
		stop_uncounted(t, uc, EV_PAUSE);
		return;
	}
	event = debug_stop(t, address);
	if (event) {
		t->address = address;
		stop_uncounted(t, uc, event);
		return;
	}
	t->account.clock += size;
	t->account.now.start = address;
	t->account.now.expect = address + size;
	set_limit(t);
}

/* Take back what translated code has counted (native/entry.c): the size of it. */
static uint32_t uncount(struct account *a)
{
	uint32_t size = a->now.expect - a->now.start;

	a->clock -= size;
	a->now = a->before;
	return size;
}

static void on_block(void *uc, uint64_t address, uint32_t size, Ticker *t)
{
	t->asked++;
	if (size != COUNTED) {
		consider(t, uc, address, size);
		return;
	}
	consider(t, uc, address, uncount(&t->account));
	t->account.leave_if_asked(uc, 0);	/* does not return then */
}

/* A store tells more than a load of the same instruction, the first one than the next. */
static void on_touch(void *ticker, size_t row, uint64_t at, bool write)
{
	Ticker *t = ticker;

	if (t->watched && (t->watched_write || !write))
		return;
	t->account.limit = 0;
	t->watched = row + 1;
	t->watched_write = write;
	t->address = at;
}

static void on_vector(void *uc, uint32_t vector, Ticker *t)
{
	if (t->event == EV_SYSCALL || t->event == EV_SYSENTER)
		return;
	t->vector = vector;
	stop(t, uc, EV_VECTOR);
}

static int on_invalid(void *uc, Ticker *t)
{
	t->vector = 6;
	stop(t, uc, EV_VECTOR);
	return 1;
}

static void on_syscall(void *uc, Ticker *t)
{
	stop(t, uc, EV_SYSCALL);
}

static void on_sysenter(void *uc, Ticker *t)
{
	stop(t, uc, EV_SYSENTER);
}

static uint64_t exact(const Ticker *t, uint64_t rip)
{
	if (t->account.now.start <= rip && rip < end_of_block(t))
		return t->account.clock - (end_of_block(t) - rip);
	return t->account.clock;
}

/* The way back is that of an instruction that changed its own block: undo_writer(). */
static bool begin_anew(void *ticker)
{
	Ticker *t = ticker;

	if (t->alone == NOW)
		return false;
	t->account.limit = 0;
	t->alone = NEXT;
	return true;
}

static bool is_alone(void *ticker)
{
	return ((Ticker *)ticker)->alone == NOW;
}

static int on_rdtsc(void *uc, Ticker *t)
{
	uint64_t rip, tsc, low, high;

	t->reg_read(uc, REG_RIP, &rip);
	tsc = exact(t, rip) * t->tsc_per_tick;
	low = (uint32_t)tsc;
	high = tsc >> 32;
	t->reg_write(uc, REG_RAX, &low);
	t->reg_write(uc, REG_RDX, &high);
	return 1;
}

/* Reading an MSR keeps all registers. */
static int on_rdtscp(void *uc, Ticker *t)
{
	struct { uint32_t number; uint64_t value; } msr = { MSR_TSC_AUX, 0 };
	uint64_t low;

	t->reg_read(uc, REG_MSR, &msr);
	low = (uint32_t)msr.value;
	t->reg_write(uc, REG_RCX, &low);
	return on_rdtsc(uc, t);
}

static PyObject *ticker_settle(Ticker *t, PyObject *argument)
{
	uint64_t rip = PyLong_AsUnsignedLongLongMask(argument);

	if (PyErr_Occurred())
		return NULL;
	if (is_in_block(t)) {
		t->account.clock = exact(t, rip);
		leave_block(t);
		t->account.now.expect = rip;
	}
	Py_RETURN_NONE;
}

static PyObject *ticker_eligible(Ticker *t, PyObject *argument)
{
	uint64_t rip = PyLong_AsUnsignedLongLongMask(argument);

	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(is_eligible(t, rip));
}

static PyObject *ticker_exact(Ticker *t, PyObject *argument)
{
	uint64_t rip = PyLong_AsUnsignedLongLongMask(argument);

	if (PyErr_Occurred())
		return NULL;
	return PyLong_FromUnsignedLongLong(exact(t, rip));
}

static PyObject *ticker_now(Ticker *t, PyObject *unused)
{
	uint64_t rip = 0;

	(void)unused;
	if (is_in_block(t))
		t->reg_read(t->uc, REG_RIP, &rip);
	return PyLong_FromUnsignedLongLong(exact(t, rip));
}

static int make_room(struct stops *s)
{
	size_t room = s->room ? 2 * s->room : 16;
	struct place *places;

	if (s->n < s->room)
		return 0;
	places = PyMem_Realloc(s->places, room * sizeof(*places));
	if (!places) {
		PyErr_NoMemory();
		return -1;
	}
	s->places = places;
	s->room = room;
	return 0;
}

static PyObject *ticker_arm(Ticker *t, PyObject *argument)
{
	uint64_t address = PyLong_AsUnsignedLongLongMask(argument);
	struct stops *s = &t->stops;
	struct place *place;
	size_t i;

	if (PyErr_Occurred())
		return NULL;
	place = place_at(s, address);
	if (place) {
		place->armed = true;
		Py_RETURN_FALSE;
	}
	if (make_room(s) < 0)
		return NULL;
	i = find_place(s, address);
	memmove(s->places + i + 1, s->places + i, (s->n++ - i) * sizeof(*s->places));
	s->places[i] = (struct place){ address, true };
	Py_RETURN_TRUE;
}

static PyObject *ticker_disarm(Ticker *t, PyObject *argument)
{
	uint64_t address = PyLong_AsUnsignedLongLongMask(argument);
	struct place *place;

	if (PyErr_Occurred())
		return NULL;
	place = place_at(&t->stops, address);
	if (place)
		place->armed = false;
	Py_RETURN_NONE;
}

static PyObject *ticker_armed(Ticker *t, PyObject *argument)
{
	uint64_t address = PyLong_AsUnsignedLongLongMask(argument);
	const struct place *place;

	if (PyErr_Occurred())
		return NULL;
	place = place_at(&t->stops, address);
	return PyBool_FromLong(place && place->armed);
}

static PyObject *ticker_prune(Ticker *t, PyObject *unused)
{
	struct stops *s = &t->stops;
	size_t i, n = 0;

	(void)unused;
	for (i = 0; i < s->n; i++)
		if (s->places[i].armed)
			s->places[n++] = s->places[i];
	s->n = n;
	Py_RETURN_NONE;
}

/* For a callback that cannot go on: what the engine finds then is not looked at. */
static PyObject *ticker_leave(Ticker *t, PyObject *unused)
{
	(void)unused;
	stop(t, t->uc, t->event);
	Py_RETURN_NONE;
}

static PyObject *ticker_io_privileged(Ticker *t, PyObject *unused)
{
	uint64_t cs = 0, eflags = 0;

	(void)unused;
	t->reg_read(t->uc, REG_CS, &cs);
	if (cs & 3)
		t->reg_read(t->uc, REG_EFLAGS, &eflags);
	return PyBool_FromLong((cs & 3) <= (eflags >> 12 & 3));
}

static int ticker_init(Ticker *t, PyObject *args, PyObject *kwargs)
{
	unsigned long long uc, emu_stop, reg_read, reg_write;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "KKKKI", &uc, &emu_stop, &reg_read, &reg_write,
			      &t->tsc_per_tick))
		return -1;
	t->uc = (void *)(uintptr_t)uc;
	t->stop = (void *)(uintptr_t)emu_stop;
	t->reg_read = (void *)(uintptr_t)reg_read;
	t->reg_write = (void *)(uintptr_t)reg_write;
	t->account.now.start = t->account.now.expect = NOWHERE;
	t->deadline = t->pause = t->passing = NOWHERE;
	set_limit(t);
	return 0;
}

static PyObject *self_pointer(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromVoidPtr(self);
}

static PyObject *stops_pointer(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromVoidPtr(&((Ticker *)self)->stops);
}

static PyObject *account_pointer(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromVoidPtr(&((Ticker *)self)->account);
}

static PyObject *start(PyObject *self, void *closure)
{
	const Ticker *t = (Ticker *)self;

	(void)closure;
	return PyLong_FromUnsignedLongLong(is_in_block(t) ? t->account.now.start : 0);
}

static PyObject *end(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(end_of_block((Ticker *)self));
}

static PyObject *page(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(last_page((Ticker *)self));
}

/* Between runs, when no block is current. */
static int set_page(PyObject *self, PyObject *value, void *closure)
{
	uint64_t page = PyLong_AsUnsignedLongLongMask(value);

	(void)closure;
	if (PyErr_Occurred())
		return -1;
	((Ticker *)self)->page = page;
	return 0;
}

/* Members that a limit depends on; the closure is the offset. */
static void *member(PyObject *self, void *closure)
{
	return (char *)self + (size_t)closure;
}

static PyObject *get_word(PyObject *self, void *closure)
{
	return PyLong_FromUnsignedLongLong(*(uint64_t *)member(self, closure));
}

static PyObject *get_int(PyObject *self, void *closure)
{
	return PyLong_FromUnsignedLong(*(uint32_t *)member(self, closure));
}

static int set_word(PyObject *self, PyObject *value, void *closure)
{
	uint64_t word = PyLong_AsUnsignedLongLong(value);

	if (PyErr_Occurred())
		return -1;
	*(uint64_t *)member(self, closure) = word;
	set_limit((Ticker *)self);
	return 0;
}

static int set_int(PyObject *self, PyObject *value, void *closure)
{
	unsigned long word = PyLong_AsUnsignedLong(value);

	if (PyErr_Occurred())
		return -1;
	*(uint32_t *)member(self, closure) = word;
	set_limit((Ticker *)self);
	return 0;
}


static void ticker_dealloc(Ticker *t)
{
	PyMem_Free(t->stops.places);
	Py_TYPE(t)->tp_free(t);
}

#define FIELD(type, name, kind, flags) { #name, kind, offsetof(type, name), flags, NULL }

static PyMemberDef ticker_members[] = {
	{ "clock", T_ULONGLONG, offsetof(Ticker, account.clock), 0, NULL },
	{ "expect", T_ULONGLONG, offsetof(Ticker, account.now.expect), 0, NULL },
	{ "origin", T_ULONGLONG, offsetof(Ticker, account.now.origin), 0, NULL },
	FIELD(Ticker, asked, T_ULONGLONG, READONLY),
	FIELD(Ticker, passing, T_ULONGLONG, 0),
	FIELD(Ticker, address, T_ULONGLONG, READONLY),
	FIELD(Ticker, watched_write, T_UINT, READONLY),
	FIELD(Ticker, vector, T_UINT, 0),
	FIELD(Ticker, event, T_UINT, 0),
	FIELD(Ticker, tsc_per_tick, T_UINT, READONLY),
	{ "places", T_PYSSIZET, offsetof(Ticker, stops.n), READONLY,
	  "How many addresses the translator is asked to end blocks before." },
	{ "everywhere", T_BOOL, offsetof(Ticker, stops.everywhere), 0,
	  "Whether every instruction is a block of its own." },
	FIELD(Ticker, uc, T_ULONGLONG, 0),
	{ NULL },
};

static PyMethodDef ticker_methods[] = {
	{ "settle", (PyCFunction)ticker_settle, METH_O,
	  "Give back what the current block did not execute, rip being the next." },
	{ "eligible", (PyCFunction)ticker_eligible, METH_O,
	  "Whether a block that begins at rip would be an eligible entry." },
	{ "exact", (PyCFunction)ticker_exact, METH_O,
	  "The clock before the instruction at rip of the current block." },
	{ "now", (PyCFunction)ticker_now, METH_NOARGS,
	  "The exact clock, between runs or inside a callback of the instruction." },
	{ "arm", (PyCFunction)ticker_arm, METH_O,
	  "Set a breakpoint; whether code must be translated anew to stop there." },
	{ "disarm", (PyCFunction)ticker_disarm, METH_O, "Take a breakpoint away." },
	{ "armed", (PyCFunction)ticker_armed, METH_O, "Whether a breakpoint is set at an address." },
	{ "prune", (PyCFunction)ticker_prune, METH_NOARGS,
	  "Forget breakpoints that were taken away: all code will be translated anew." },
	{ "leave", (PyCFunction)ticker_leave, METH_NOARGS, "End the run, with no event of its own." },
	{ "io_privileged", (PyCFunction)ticker_io_privileged, METH_NOARGS,
	  "Whether IN and OUT may use any port: CPL is at most IOPL." },
	{ NULL },
};

#define LIMITING(name, field, kind) \
	{ name, get_##kind, set_##kind, NULL, (void *)offsetof(Ticker, field) }

static PyGetSetDef ticker_getset[] = {
	{ "pointer", self_pointer, NULL, "Address for a hook's user_data.", NULL },
	{ "stops", stops_pointer, NULL, "Address of what the translator must know.", NULL },
	{ "account", account_pointer, NULL, "Address of what each block's entry changes.", NULL },
	{ "start", start, NULL, "Where the current block begins; 0: there is none.", NULL },
	{ "end", end, NULL, "Where the current block ends; 0: there is none.", NULL },
	{ "page", page, set_page, "The page of the instruction before, by number.", NULL },
	LIMITING("deadline", deadline, word),
	LIMITING("pause", pause, word),
	LIMITING("watched", watched, word),
	LIMITING("steps", steps, int),
	LIMITING("interrupt", interrupt, int),
	{ NULL },
};

static PyTypeObject ticker_type = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "nanokernel_vm.cpu._ticker.Ticker",
	.tp_basicsize = sizeof(Ticker),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "Byte clock and stop events of one engine.",
	.tp_new = PyType_GenericNew,
	.tp_init = (initproc)ticker_init,
	.tp_dealloc = (destructor)ticker_dealloc,
	.tp_members = ticker_members,
	.tp_methods = ticker_methods,
	.tp_getset = ticker_getset,
};

static const struct {
	const char *name;
	void *function;
} hooks[] = {
	{ "ON_BLOCK", on_block },
	{ "ON_TOUCH", on_touch },
	{ "BEGIN_ANEW", begin_anew },
	{ "IS_ALONE", is_alone },
	{ "ON_VECTOR", on_vector },
	{ "ON_INVALID", on_invalid },
	{ "ON_SYSCALL", on_syscall },
	{ "ON_SYSENTER", on_sysenter },
	{ "ON_RDTSC", on_rdtsc },
	{ "ON_RDTSCP", on_rdtscp },
};

static const struct {
	const char *name;
	long value;
} events[] = {
	{ "NONE", EV_NONE },
	{ "DEADLINE", EV_DEADLINE },
	{ "PAUSE", EV_PAUSE },
	{ "INTERRUPT", EV_INTERRUPT },
	{ "VECTOR", EV_VECTOR },
	{ "SYSCALL", EV_SYSCALL },
	{ "SYSENTER", EV_SYSENTER },
	{ "BREAKPOINT", EV_BREAKPOINT },
	{ "STEP", EV_STEP },
	{ "WATCH", EV_WATCH },
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_ticker",
	.m_doc = "Native hooks for Unicorn: the byte clock and the events that stop it.",
	.m_size = -1,
};

static int add_constants(PyObject *m)
{
	size_t i;

	for (i = 0; i < sizeof(hooks) / sizeof(*hooks); i++) {
		PyObject *address = PyLong_FromVoidPtr(hooks[i].function);

		if (!address || PyModule_AddObject(m, hooks[i].name, address) < 0)
			return -1;
	}
	for (i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (PyModule_AddIntConstant(m, events[i].name, events[i].value) < 0)
			return -1;
	return 0;
}

PyMODINIT_FUNC PyInit__ticker(void)
{
	PyObject *m;

	if (PyType_Ready(&ticker_type) < 0)
		return NULL;
	m = PyModule_Create(&module);
	if (!m || add_constants(m) < 0 ||
	    PyModule_AddObjectRef(m, "Ticker", (PyObject *)&ticker_type) < 0) {
		Py_XDECREF(m);
		return NULL;
	}
	return m;
}
