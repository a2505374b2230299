// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Functions that stand in for some of Unicorn's, by the dynamic linker's rules: this module
 * is loaded before libunicorn and into the global scope, so that the library's own calls of
 * what it exports come here.  Each goes on to the function it stands for.
 *
 * This file is the module as Python sees it; the functions are in native/, what they know of
 * one engine in native/engine.h.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <string.h>
#include <structmember.h>

#include "native/engine.h"
#include "native/env.h"
#include "native/promises.h"

struct originals original;

static const struct {
	const char *name;
	void **place;
} names[] = {
#define ROW(member, symbol) { #symbol, (void **)&original.member },
	ORIGINALS(ROW)
	HELPERS(ROW)
#undef ROW
#define ROW(name) { "helper_" #name "_x86_64", (void **)&original.name },
	ARITHMETIC(ROW)
	ROUNDING(ROW)
#undef ROW
};

typedef struct {
	PyObject_HEAD
	struct engine engine;
	struct stops none;	/* for one that nobody stops */
	struct account nothing;
} Core;

static int core_init(Core *self, PyObject *args, PyObject *kwargs)
{
	unsigned long long uc;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "K", &uc))
		return -1;
	self->engine.stops = &self->none;
	self->engine.account = &self->nothing;
	if (!pages_init(&self->engine.pages)) {
		PyErr_NoMemory();
		return -1;
	}
	if (adopt(&self->engine, (void *)(uintptr_t)uc)) {
		PyErr_SetString(PyExc_MemoryError, "the engine could not be made");
		return -1;
	}
	if (self->engine.cpu)
		return 0;
	PyErr_SetString(PyExc_RuntimeError, "the library's calls do not come here");
	return -1;
}

static void core_dealloc(Core *self)
{
	abandon(&self->engine);
	pages_free(&self->engine.pages);
	watch_free(&self->engine.watches);
	Py_TYPE(self)->tp_free(self);
}

static PyObject *core_run(Core *self, PyObject *argument)
{
	uint64_t rip = PyLong_AsUnsignedLongLongMask(argument);
	int status;

	if (PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	status = run(&self->engine, rip);
	Py_END_ALLOW_THREADS
	return PyLong_FromLong(status);
}

static PyObject *core_close(Core *self, PyObject *unused)
{
	int status;

	(void)unused;
	Py_BEGIN_ALLOW_THREADS
	status = close_engine(&self->engine);
	Py_END_ALLOW_THREADS
	abandon(&self->engine);
	return PyBool_FromLong(!status);
}

/* The place in this process, for who looks for the fault in the library. */
static PyObject *place(uintptr_t pc)
{
	const char *file;
	Dl_info info;

	if (!dladdr((void *)pc, &info) || !info.dli_fname)
		return PyUnicode_FromString("code made of the guest's");
	file = strrchr(info.dli_fname, '/');
	return PyUnicode_FromFormat("%s at %p (%s)", file ? file + 1 : info.dli_fname,
				    (void *)(pc - (uintptr_t)info.dli_fbase),
				    info.dli_sname ? info.dli_sname : "no name");
}

static PyObject *core_death(Core *self, PyObject *unused)
{
	const struct death *d = &self->engine.landing.death;

	(void)unused;
	return Py_BuildValue("(iNKKN)", d->cause, PyBool_FromLong(d->translating),
			     (unsigned long long)d->at, (unsigned long long)d->address, place(d->host_pc));
}

static PyObject *core_connect(Core *self, PyObject *args)
{
	unsigned long long stops, account, on_block, base;

	if (!PyArg_ParseTuple(args, "KKKK", &stops, &account, &on_block, &base))
		return NULL;
	self->engine.stops = (struct stops *)(uintptr_t)stops;
	self->engine.account = (struct account *)(uintptr_t)account;
	self->engine.account->leave_if_asked = original.check_exit;
	self->engine.on_block = (void *)(uintptr_t)on_block;
	self->engine.base = base;
	Py_RETURN_NONE;
}

static PyObject *core_flush_tlb(Core *self, PyObject *unused)
{
	(void)unused;
	running = &self->engine;
	original.ctl(self->engine.uc, (int)CTL_TLB_FLUSH);
	running = NULL;
	Py_RETURN_NONE;
}

/* Who is told of what is watched, and the memory in which page tables are. */
static PyObject *core_report_to(Core *self, PyObject *args)
{
	struct watches *w = &self->engine.watches;
	unsigned long long ticker, note, anew, alone, ram, base, size;

	if (!PyArg_ParseTuple(args, "KKKKKKK", &ticker, &note, &anew, &alone, &ram, &base, &size))
		return NULL;
	w->ticker = (void *)(uintptr_t)ticker;
	w->note = (note_fn *)(uintptr_t)note;
	w->begin_anew = (begin_anew_fn *)(uintptr_t)anew;
	w->is_alone = (is_alone_fn *)(uintptr_t)alone;
	w->ram = (uint8_t *)(uintptr_t)ram;
	w->base = base;
	w->size = size;
	Py_RETURN_NONE;
}

static PyObject *core_watch(Core *self, PyObject *argument)
{
	Py_buffer words;
	bool done;

	if (PyObject_GetBuffer(argument, &words, PyBUF_SIMPLE) < 0)
		return NULL;
	done = watch_set(&self->engine, words.buf, words.len / sizeof(uint64_t));
	PyBuffer_Release(&words);
	if (!done)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *core_written(Core *self, PyObject *args)
{
	unsigned long long pa, length;

	if (!PyArg_ParseTuple(args, "KK", &pa, &length))
		return NULL;
	pages_written(&self->engine, pa, length);
	watch_store(&self->engine, pa, length);
	Py_RETURN_NONE;
}

static PyObject *core_page(Core *self, PyObject *argument)
{
	uint64_t va = PyLong_AsUnsignedLongLongMask(argument);

	if (PyErr_Occurred())
		return NULL;
	return PyLong_FromUnsignedLongLong(tlb_page(&self->engine, va));
}

static PyObject *core_fast(Core *self, PyObject *argument)
{
	uint64_t va = PyLong_AsUnsignedLongLongMask(argument);

	if (PyErr_Occurred())
		return NULL;
	return PyBool_FromLong(tlb_has_fast_stores(&self->engine, va));
}

static PyMemberDef core_members[] = {
	{ "lenient", T_BOOL, offsetof(Core, engine.lenient), 0,
	  "Whether code translated from now on is decoded as Unicorn does." },
	{ "inlining", T_BOOL, offsetof(Core, engine.inlining), 0,
	  "Whether code translated from now on counts its blocks itself." },
	{ "outside", T_INT, offsetof(Core, engine.landing.outside), 0,
	  "How many callbacks into Python are active in the run: a fault there is the process's." },
	{ NULL },
};

static PyMethodDef core_methods[] = {
	{ "written", (PyCFunction)core_written, METH_VARARGS,
	  "Take note that RAM at a physical address was written by someone else: address, length." },
	{ "connect", (PyCFunction)core_connect, METH_VARARGS,
	  "Addresses of a Ticker's stops and account and of ON_BLOCK, and the physical address of RAM." },
	{ "flush_tlb", (PyCFunction)core_flush_tlb, METH_NOARGS,
	  "Drop all cached translations of addresses, at the present virtual time." },
	{ "run", (PyCFunction)core_run, METH_O,
	  "Run from an address until something stops the engine; uc_emu_start()'s status, or DIED: "
	  "it must then be closed." },
	{ "death", (PyCFunction)core_death, METH_NOARGS,
	  "What the last run died of: cause, whether in translation, of what linear address, the "
	  "address that a signal is about or an exit's status, place." },
	{ "close", (PyCFunction)core_close, METH_NOARGS,
	  "uc_close(); False if it died of that and something has stayed behind." },
	{ "report_to", (PyCFunction)core_report_to, METH_VARARGS,
	  "Tell a ticker of what is watched: its pointer, ON_TOUCH, BEGIN_ANEW, IS_ALONE; then "
	  "where physical address 0 is in this process, and the window's base and size." },
	{ "watch", (PyCFunction)core_watch, METH_O,
	  "Watch this and nothing else: rows of 64-bit words (watch.c)." },
	{ "fast", (PyCFunction)core_fast, METH_O, "Whether a store to an address would be fast." },
	{ "page", (PyCFunction)core_page, METH_O,
	  "The physical page that the TLB has for an address; all ones: none." },
	{ NULL },
};

static PyTypeObject core_type = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "nanokernel_vm.cpu._interpose.Core",
	.tp_basicsize = sizeof(Core),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.tp_doc = "What the stand-ins know of one engine; how it is run.",
	.tp_new = PyType_GenericNew,
	.tp_init = (initproc)core_init,
	.tp_dealloc = (destructor)core_dealloc,
	.tp_members = core_members,
	.tp_methods = core_methods,
};

static PyObject *bind(PyObject *self, PyObject *argument)
{
	void *library = PyLong_AsVoidPtr(argument);
	size_t i;

	(void)self;
	if (PyErr_Occurred())
		return NULL;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		void *function = dlsym(library, names[i].name);

		if (!function)
			return PyUnicode_FromString(names[i].name);
		*names[i].place = function;
	}
	if (!redirect_calls(library))
		return PyUnicode_FromString("abort() or gettimeofday() in its linkage table");
	if (!find_code(library))
		return PyUnicode_FromString("segment of code");
	Py_RETURN_NONE;
}

static bool keep(struct rules *rules, const Py_buffer *bytes)
{
	rules->rule = malloc(bytes->len);
	if (!rules->rule) {
		PyErr_NoMemory();
		return false;
	}
	memcpy(rules->rule, bytes->buf, bytes->len);
	rules->count = bytes->len / sizeof(struct rule);
	return true;
}

static PyObject *promise(PyObject *self, PyObject *args)
{
	Py_buffer denied, vex, aligned;
	unsigned long long cr4, xcr0;
	bool kept;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*y*KK", &denied, &vex, &aligned, &cr4, &xcr0))
		return NULL;
	promises.cr4 = cr4;
	promises.xcr0 = xcr0;
	kept = keep(&promises.denied, &denied) && keep(&promises.vex, &vex) &&
	       keep(&promises.aligned, &aligned);
	PyBuffer_Release(&denied);
	PyBuffer_Release(&vex);
	PyBuffer_Release(&aligned);
	if (!kept)
		return NULL;
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "bind", bind, METH_O, "Take the originals from a library, by its dlopen() handle; the name of one that "
	  "is missing, or None." },
	{ "promise", promise, METH_VARARGS,
	  "Encodings that are #UD, those with VEX that are not, those that want aligned memory, "
	  "all as struct rule; bits that CR4 and XCR0 may have.  Once, before an engine runs." },
	{ NULL },
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_interpose",
	.m_doc = "Stand-ins for functions of libunicorn.",
	.m_size = -1,
	.m_methods = methods,
};

static bool add_offsets(PyObject *m)
{
	return !(PyModule_AddIntMacro(m, ENV_CC_SRC) || PyModule_AddIntMacro(m, ENV_CR4) ||
		 PyModule_AddIntMacro(m, ENV_FP_STATUS) || PyModule_AddIntMacro(m, ENV_SSE_STATUS) ||
		 PyModule_AddIntMacro(m, ENV_MXCSR) || PyModule_AddIntMacro(m, ENV_SYSENTER_CS));
}

PyMODINIT_FUNC PyInit__interpose(void)
{
	PyObject *m;

	if (PyType_Ready(&core_type) < 0)
		return NULL;
	m = PyModule_Create(&module);
	if (m && (PyModule_AddObjectRef(m, "Core", (PyObject *)&core_type) < 0 ||
		  PyModule_AddIntMacro(m, DIED) < 0 || PyModule_AddIntMacro(m, ABORTED) < 0 ||
		  PyModule_AddIntMacro(m, EXITED) < 0 || !add_offsets(m)))
		Py_CLEAR(m);
	return m;
}
