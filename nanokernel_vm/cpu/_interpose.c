// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Functions that stand in for some of Unicorn's, by the dynamic linker's rules: this module
 * is loaded before libunicorn and into the global scope, so that the library's own calls of
 * what it exports come here.  Each goes on to the function it stands for.  A library that
 * does not call through its linkage table is not touched, and only slower.
 *
 * What is wanted is the rule of QEMU's softmmu, from which Unicorn departed: a store to a
 * page with translated code takes the slow path, which drops that code; no other store
 * does.  Unicorn asks instead whether the virtual page may be executed.  So every store to
 * a page that is writable and executable is slow, as all of a kernel's data is until it has
 * protected itself; and a store through a mapping that is not executable, of which there is
 * one of each page in Linux's direct map, leaves stale translations behind.
 *
 * Physical pages that have been fetched from are remembered, for good.  All others enter the
 * TLB as not executable, until they are fetched from.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGES (1ul << 20)	/* 4 GiB; pages above count as fetched from */
#define PAGE_EXEC 4		/* qemu/include/exec/cpu-all.h */
#define MMU_INST_FETCH 2	/* qemu/include/hw/core/cpu.h, enum MMUAccessType */

typedef struct {
	uint32_t bits;
} MemTxAttrs;

typedef bool tlb_fill_fn(void *cpu, uint64_t va, int size, int access, int mmu_idx, bool probe,
			 uintptr_t retaddr);
typedef void set_page_fn(void *cpu, uint64_t va, uint64_t pa, MemTxAttrs attrs, int prot,
			 int mmu_idx, uint64_t size);
typedef void set_dirty_fn(void *cpu, uint64_t va);
typedef void *mapping_fn(void *uc, uint64_t pa);
typedef void flush_fn(void *cpu);
typedef void exit_request_fn(void *tcg_ctx);

tlb_fill_fn x86_cpu_tlb_fill_x86_64;
set_page_fn tlb_set_page_with_attrs_x86_64;
set_dirty_fn tlb_set_dirty_x86_64;
mapping_fn find_memory_mapping_x86_64;
exit_request_fn check_exit_request_x86_64;

static struct {
	tlb_fill_fn *tlb_fill;
	set_page_fn *set_page;
	set_dirty_fn *set_dirty;
	mapping_fn *mapping;
	exit_request_fn *exit_request;
	flush_fn *flush;
} original;

/* One thread at a time runs an engine. */
static uint8_t fetched[PAGES / 8];	/* pages with translated code, perhaps */
static uint8_t dirty[PAGES / 8];	/* pages to which stores may be fast somewhere */
static enum { UNKNOWN, DATA, FETCH } access_now;
static uint64_t looked_up;		/* the last address asked for */
static bool exit_checks;			/* whether to translate so that any instruction can stop */

static bool test(const uint8_t *set, uint64_t pa)
{
	uint64_t page = pa >> PAGE_SHIFT;

	return page >= PAGES || set[page >> 3] >> (page & 7) & 1;
}

static void add(uint8_t *set, uint64_t pa)
{
	uint64_t page = pa >> PAGE_SHIFT;

	if (page < PAGES)
		set[page >> 3] |= 1 << (page & 7);
}

bool x86_cpu_tlb_fill_x86_64(void *cpu, uint64_t va, int size, int access, int mmu_idx, bool probe,
			     uintptr_t retaddr)
{
	bool filled;

	access_now = access == MMU_INST_FETCH ? FETCH : DATA;
	filled = original.tlb_fill(cpu, va, size, access, mmu_idx, probe, retaddr);
	access_now = UNKNOWN;
	return filled;
}

/* A page is fetched from for the first time: no store to it may be fast any more. */
static void protect(void *cpu, uint64_t pa)
{
	if (test(dirty, pa))
		original.flush(cpu);
	add(fetched, pa);
}

void tlb_set_page_with_attrs_x86_64(void *cpu, uint64_t va, uint64_t pa, MemTxAttrs attrs, int prot,
				    int mmu_idx, uint64_t size)
{
	if (!test(fetched, pa)) {
		if (access_now == DATA)
			prot &= ~PAGE_EXEC;
		else
			protect(cpu, pa);
	}
	original.set_page(cpu, va, pa, attrs, prot, mmu_idx, size);
}

/* Unicorn asks where an address lies just before it declares the page there dirty. */
void *find_memory_mapping_x86_64(void *uc, uint64_t pa)
{
	looked_up = pa;
	return original.mapping(uc, pa);
}

void tlb_set_dirty_x86_64(void *cpu, uint64_t va)
{
	if (test(fetched, looked_up))
		return;
	add(dirty, looked_up);
	original.set_dirty(cpu, va);
}

/* The translator puts a call behind every access to memory, to stop right there. */
void check_exit_request_x86_64(void *tcg_ctx)
{
	if (exit_checks)
		original.exit_request(tcg_ctx);
}

static const struct {
	const char *name;
	void **place;
} names[] = {
	{ "x86_cpu_tlb_fill_x86_64", (void **)&original.tlb_fill },
	{ "tlb_set_page_with_attrs_x86_64", (void **)&original.set_page },
	{ "tlb_set_dirty_x86_64", (void **)&original.set_dirty },
	{ "find_memory_mapping_x86_64", (void **)&original.mapping },
	{ "check_exit_request_x86_64", (void **)&original.exit_request },
	{ "tlb_flush_x86_64", (void **)&original.flush },
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
	Py_RETURN_NONE;
}

static PyObject *check_exits(PyObject *self, PyObject *argument)
{
	int wanted = PyObject_IsTrue(argument);

	(void)self;
	if (wanted < 0)
		return NULL;
	exit_checks = wanted;
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "bind", bind, METH_O, "Take the originals from a library, by its dlopen() handle; the name of one that "
	  "is missing, or None." },
	{ "check_exits", check_exits, METH_O,
	  "Whether code translated from now on can be stopped inside a block." },
	{ NULL },
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_interpose",
	.m_doc = "Stand-ins for functions of libunicorn.",
	.m_size = -1,
	.m_methods = methods,
};

PyMODINIT_FUNC PyInit__interpose(void)
{
	return PyModule_Create(&module);
}
