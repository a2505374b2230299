# SPDX-License-Identifier: GPL-2.0-or-later
"""C types of variables that people and tools ask for by name.

BTF types per-CPU variables only, the symbol table none.  What a kernel does not have,
be it the variable or the type, is passed over.
"""

import re

from nanokernel_vm.linux.btf import Btf, Kind, Type

# In the C of the kernel's own declarations.  A count is a number or an enumerator, and
# without one the symbol's size decides, which may include padding.
TABLE = {
    # tasks, as in init/init_task.c, kernel/fork.c, kernel/pid.c, kernel/sched
    "init_task": "struct task_struct",
    "init_mm": "struct mm_struct",
    "init_fs": "struct fs_struct",
    "init_files": "struct files_struct",
    "init_cred": "struct cred",
    "init_nsproxy": "struct nsproxy",
    "init_pid_ns": "struct pid_namespace",
    "init_user_ns": "struct user_namespace",
    "init_uts_ns": "struct uts_namespace",
    "init_css_set": "struct css_set",
    "init_ipc_ns": "struct ipc_namespace",
    "init_time_ns": "struct time_namespace",
    "task_state_array": "const char * [9]",
    "task_struct_cachep": "struct kmem_cache *",
    "stack_slabs": "void * []",
    "uidhash_table": "struct hlist_head []",
    "avenrun": "unsigned long [3]",
    "nr_threads": "int",
    "max_threads": "int",
    "total_forks": "unsigned long",
    "tasklist_lock": "rwlock_t",
    "root_task_group": "struct task_group",
    "sysctl_sched_latency": "unsigned int",
    # time
    "jiffies": "volatile unsigned long",
    "jiffies_64": "u64",
    "tick_do_timer_cpu": "int",
    "tsc_khz": "unsigned int",
    "loops_per_jiffy": "unsigned long",
    "preset_lpj": "unsigned long",
    # boot, identity, state
    "linux_banner": "const char []",
    "boot_command_line": "char []",
    "saved_command_line": "char *",
    "boot_params": "struct boot_params",
    "boot_cpu_data": "struct cpuinfo_x86",
    "system_state": "enum system_states",
    "tainted_mask": "unsigned long",
    "taint_flags": "const struct taint_flag [19]",
    "vermagic": "const char []",
    "panic_cpu": "atomic_t",
    "panic_timeout": "int",
    "panic_on_oops": "int",
    "oops_in_progress": "int",
    "crash_kexec_post_notifiers": "bool",
    "vmcoreinfo_data": "unsigned char *",
    "vmcoreinfo_size": "size_t",
    "vmcoreinfo_note": "u32 *",
    "__per_cpu_offset": "unsigned long []",
    "nr_cpu_ids": "unsigned int",
    "__cpu_possible_mask": "struct cpumask",
    "__cpu_online_mask": "struct cpumask",
    "__cpu_present_mask": "struct cpumask",
    "__cpu_active_mask": "struct cpumask",
    # the log
    "prb": "struct printk_ringbuffer *",
    "printk_rb_static": "struct printk_ringbuffer",
    "log_buf": "char *",
    "log_buf_len": "u32",
    "console_drivers": "struct console *",
    "console_printk": "int [4]",
    "console_suspended": "int",
    # interrupts
    "irq_desc_tree": "struct xarray",
    "nr_irqs": "int",
    "idt_table": "gate_desc []",
    "irq_err_count": "atomic_t",
    "softirq_vec": "struct softirq_action [NR_SOFTIRQS]",
    "poll_spurious_irq_timer": "struct timer_list",
    "sys_call_table": "const sys_call_ptr_t []",
    # memory
    "init_top_pgt": "pgd_t []",
    "page_offset_base": "unsigned long",
    "vmalloc_base": "unsigned long",
    "vmemmap_base": "unsigned long",
    "phys_base": "unsigned long",
    "max_pfn": "unsigned long",
    "max_low_pfn": "unsigned long",
    "min_low_pfn": "unsigned long",
    "__highest_present_section_nr": "unsigned long",
    "memblock": "struct memblock",
    "node_states": "nodemask_t [NR_NODE_STATES]",
    "nr_node_ids": "unsigned int",
    "nr_swap_pages": "atomic_long_t",
    "nr_swapfiles": "unsigned int",
    "nr_swapper_spaces": "unsigned int []",
    "swap_info": "struct swap_info_struct * []",
    "swapper_spaces": "struct address_space * []",
    "total_swap_pages": "long",
    "sysctl_overcommit_kbytes": "unsigned long",
    "sysctl_overcommit_ratio": "int",
    "vm_committed_as": "struct percpu_counter",
    "vm_numa_event": "atomic_long_t []",
    "hstates": "struct hstate []",
    "hugetlb_max_hstate": "int",
    "gfpflag_names": "const struct trace_print_flags []",
    "high_memory": "void *",
    "mem_section": "struct mem_section **",
    "node_data": "struct pglist_data * []",
    "vm_zone_stat": "atomic_long_t [NR_VM_ZONE_STAT_ITEMS]",
    "vm_node_stat": "atomic_long_t [NR_VM_NODE_STAT_ITEMS]",
    "_totalram_pages": "atomic_long_t",
    "vmap_area_list": "struct list_head",
    "vmap_area_root": "struct rb_root",
    "slab_caches": "struct list_head",
    "slab_kset": "struct kset *",
    # modules, files, devices, network
    "modules": "struct list_head",
    "mod_tree": "struct mod_tree_root",
    "module_ktype": "struct kobj_type",
    "bus_kset": "struct kset *",
    "bus_ktype": "struct kobj_type",
    "class_kset": "struct kset *",
    "class_ktype": "struct kobj_type",
    "device_ktype": "struct kobj_type",
    "driver_ktype": "struct kobj_type",
    "memory_subsys": "struct bus_type",
    "pci_bus_type": "struct bus_type",
    "sysfs_root_kn": "struct kernfs_node *",
    "blockdev_superblock": "struct super_block *",
    "cdev_map": "struct kobj_map *",
    "major_names": "struct blk_major_name * []",
    "ns_file_operations": "const struct file_operations",
    "arp_tbl": "struct neigh_table",
    "btf_idr": "struct idr",
    "link_idr": "struct idr",
    "map_idr": "struct idr",
    "prog_idr": "struct idr",
    "modprobe_path": "char []",
    "core_pattern": "char []",
    "super_blocks": "struct list_head",
    "file_systems": "struct file_system_type *",
    "chrdevs": "struct char_device_struct * []",
    "block_class": "struct class",
    "iomem_resource": "struct resource",
    "ioport_resource": "struct resource",
    "pci_root_buses": "struct list_head",
    "net_namespace_list": "struct list_head",
    "init_net": "struct net",
    "cgrp_dfl_root": "struct cgroup_root",
    "cgroup_roots": "struct list_head",
    "workqueues": "struct list_head",
    "panic_notifier_list": "struct atomic_notifier_head",
    "sysrq_key_table": "const struct sysrq_key_op * [62]",
}

_QUALIFIERS = {"const": Kind.CONST, "volatile": Kind.VOLATILE}
_PREFIXES = {"struct": Kind.STRUCT, "union": Kind.UNION, "enum": Kind.ENUM}
# What C calls the types that BTF has by their full DWARF names.
_SPELLING = {
    "unsigned long": "long unsigned int",
    "long": "long int",
}
_DECLARATOR = re.compile(r"\s*(?:(\*)|\[(\w*)\])")


def find_type(btf: Btf, text: str, size: int) -> int | None:
    """Return the number of a C type, adding pointers and arrays as needed.

    Args:
        text: A type of ``TABLE``.
        size: Bytes that the variable has.

    Returns:
        None if ``btf`` has no such type.
    """
    match = _DECLARATOR.search(text)
    base = text[: match.start()] if match else text
    number = _find_base(btf, base)
    for pointer, count in _DECLARATOR.findall(text, len(base)):
        if number is None:
            return None
        if pointer:
            number = btf.add(Type(Kind.PTR, 0, False, number))
        else:
            number = _add_array(btf, number, count, size)
    return number


def _find_base(btf: Btf, text: str) -> int | None:
    first, _, rest = text.partition(" ")
    if qualifier := _QUALIFIERS.get(first):
        number = _find_base(btf, rest)
        return number and btf.add(Type(qualifier, 0, False, number))
    if prefix := _PREFIXES.get(first):
        return btf.find(prefix, rest)
    if text == "void":
        return 0
    name = _SPELLING.get(text, text)
    return btf.find(Kind.INT, name) or btf.find(Kind.TYPEDEF, name)


def _add_array(btf: Btf, element: int, count: str, size: int) -> int | None:
    index, width = btf.find(Kind.INT, "int"), btf.size(element)
    if not index or not width:
        return None
    if not count:
        number = size // width
    elif count.isdigit():
        number = int(count)
    elif (value := btf.enumerator(count)) is not None:
        number = value
    else:
        return None
    return btf.add(Type(Kind.ARRAY, 0, False, 0, ((element, index, number),)))
