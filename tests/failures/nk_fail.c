// SPDX-License-Identifier: GPL-2.0
/*
 * A module that fails as it is told: insmod nk_fail.ko how=null
 *
 * Each failure is what a driver's mistake looks like, in functions whose names a
 * report must find.
 */
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

static char *how = "";
module_param(how, charp, 0);

struct victim {
	struct list_head link;
	long data[6];
	struct victim *next;	/* in the middle, where SLUB keeps its own link */
	long more[7];
};

/* --- ABBA ------------------------------------------------------------------ */

static DEFINE_MUTEX(lock_a);
static DEFINE_MUTEX(lock_b);

static noinline int take_a_then_b(void *unused)
{
	mutex_lock(&lock_a);
	msleep(50);
	mutex_lock(&lock_b);
	return 0;
}

static noinline int take_b_then_a(void *unused)
{
	mutex_lock(&lock_b);
	msleep(50);
	mutex_lock(&lock_a);
	return 0;
}

static noinline int fail_deadlock(void)
{
	kthread_run(take_a_then_b, NULL, "nk_ab");
	kthread_run(take_b_then_a, NULL, "nk_ba");
	return 0;
}

/* --- queues of every kind of lock ------------------------------------------- */

static DECLARE_RWSEM(written);
static DECLARE_RWSEM(read);
static struct semaphore never;
static struct mutex *on_heap;

static noinline int write_and_sleep(void *unused)
{
	down_write(&written);
	ssleep(1000);
	return 0;
}

static noinline int read_and_sleep(void *unused)
{
	down_read(&read);
	mutex_lock(on_heap);
	ssleep(1000);
	return 0;
}

static noinline int want_to_read(void *unused)
{
	msleep(20);
	down_read(&written);
	return 0;
}

static noinline int want_to_write(void *unused)
{
	msleep(40);
	down_write(&written);
	return 0;
}

static noinline int want_to_write_what_is_read(void *unused)
{
	msleep(20);
	down_write(&read);
	return 0;
}

static noinline int want_never(void *unused)
{
	down(&never);
	return 0;
}

static noinline int want_on_heap(void *unused)
{
	msleep(20);
	mutex_lock(on_heap);
	return 0;
}

static noinline int fail_queues(void)
{
	sema_init(&never, 0);
	on_heap = kmalloc(sizeof(*on_heap), GFP_KERNEL);
	mutex_init(on_heap);
	kthread_run(write_and_sleep, NULL, "nk_writer");
	kthread_run(read_and_sleep, NULL, "nk_reader");
	kthread_run(want_to_read, NULL, "nk_to_read");
	kthread_run(want_to_write, NULL, "nk_to_write");
	kthread_run(want_to_write_what_is_read, NULL, "nk_other");
	kthread_run(want_never, NULL, "nk_never");
	kthread_run(want_on_heap, NULL, "nk_heap");
	return 0;
}

static DEFINE_SPINLOCK(taken);

static noinline int __init fail_twice(void)	/* in a section of its own */
{
	spin_lock(&taken);
	spin_lock(&taken);
	return 0;
}

/* --- one CPU, no interrupts ------------------------------------------------- */

static noinline int fail_spin(void)
{
	local_irq_disable();
	while (how)
		cpu_relax();
	return 0;
}

static noinline int fail_lockup(void)
{
	preempt_disable();
	while (how)
		cpu_relax();
	return 0;
}

static noinline int fail_keep(void)
{
	while (how)
		cpu_relax();
	return 0;
}

static noinline int fail_busy_wait(void)
{
	local_irq_disable();
	while (how)
		mdelay(10);
	return 0;
}

static noinline int fail_warning(void)
{
	WARN_ON(how);
	return 0;
}

/* --- pointers ---------------------------------------------------------------- */

static noinline int fail_null(void)
{
	struct victim *volatile nothing = NULL;

	return nothing->more[0];
}

static noinline int fail_after_free(void)
{
	struct victim *first = kzalloc(sizeof(*first), GFP_KERNEL);
	struct victim *volatile kept = first;

	first->next = first;
	kfree(first);
	return kept->next->data[1];
}

static noinline int fail_list(void)
{
	struct list_head head;
	struct victim *a = kzalloc(sizeof(*a), GFP_KERNEL);
	struct victim *b = kzalloc(sizeof(*b), GFP_KERNEL);

	INIT_LIST_HEAD(&head);
	list_add(&a->link, &head);
	a->link.prev = &b->link;	/* a stray write */
	list_del(&a->link);
	return 0;
}

/* --- the stack ---------------------------------------------------------------- */

static noinline int fail_stack(int depth)
{
	volatile char room[200];

	memset((char *)room, depth, sizeof(room));
	if (*how)	/* always */
		depth = fail_stack(depth + 1);
	return depth + room[depth % sizeof(room)];
}

/* --- waiting ------------------------------------------------------------------ */

static noinline int wait_for_nothing(void *unused)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		schedule();
	}
	return 0;
}

static noinline int fail_hang(void)
{
	kthread_run(wait_for_nothing, NULL, "nk_waits");
	return 0;
}

static noinline int wait_too_long(void *unused)
{
	schedule_timeout_uninterruptible(4 * HZ);
	return 0;
}

static noinline int sleep_as_reader(void *unused)
{
	rcu_read_lock();
	ssleep(1000);
	rcu_read_unlock();
	return 0;
}

static noinline int fail_stall(void)
{
	kthread_run(sleep_as_reader, NULL, "nk_reads");
	return 0;
}

static noinline int fail_slow(void)
{
	kthread_run(wait_too_long, NULL, "nk_slow");
	return 0;
}

/* --- BUG() -------------------------------------------------------------------- */

static noinline int fail_bug(void)
{
	BUG();
	return 0;
}

/* --- memory ------------------------------------------------------------------- */

static noinline int take_all_memory(void *unused)
{
	unsigned int order = MAX_ORDER;

	while (order--)
		while (alloc_pages(GFP_KERNEL | __GFP_NOWARN |
				   (order ? __GFP_NORETRY : 0), order))
			;
	return 0;
}

static noinline int fail_memory(void)
{
	kthread_run(take_all_memory, NULL, "nk_eats");
	return 0;
}

/* --- nothing bad: code that is not for the start, in a thread and in a softirq ------- */

static noinline void sleep_and_warn(struct work_struct *unused)
{
	msleep(50);
	WARN_ON(how);
}

static noinline void linger(struct timer_list *unused)
{
	mdelay(20);	/* ticks come meanwhile */
}

static DECLARE_WORK(work, sleep_and_warn);
static DEFINE_TIMER(timer, linger);

static noinline int fail_later(void)
{
	schedule_work(&work);
	mod_timer(&timer, jiffies + 1);
	flush_work(&work);
	del_timer_sync(&timer);
	return -EAGAIN;
}

static int __init nk_fail_init(void)
{
	if (!strcmp(how, "later"))
		return fail_later();
	if (!strcmp(how, "deadlock"))
		return fail_deadlock();
	if (!strcmp(how, "queues"))
		return fail_queues();
	if (!strcmp(how, "twice"))
		return fail_twice();
	if (!strcmp(how, "spin"))
		return fail_spin();
	if (!strcmp(how, "lockup"))
		return fail_lockup();
	if (!strcmp(how, "keep"))
		return fail_keep();
	if (!strcmp(how, "stall"))
		return fail_stall();
	if (!strcmp(how, "busy-wait"))
		return fail_busy_wait();
	if (!strcmp(how, "slow"))
		return fail_slow();
	if (!strcmp(how, "warning"))
		return fail_warning();
	if (!strcmp(how, "null"))
		return fail_null();
	if (!strcmp(how, "after-free"))
		return fail_after_free();
	if (!strcmp(how, "list"))
		return fail_list();
	if (!strcmp(how, "stack"))
		return fail_stack(0);
	if (!strcmp(how, "hang"))
		return fail_hang();
	if (!strcmp(how, "bug"))
		return fail_bug();
	if (!strcmp(how, "memory"))
		return fail_memory();
	return -EINVAL;
}
module_init(nk_fail_init);

MODULE_DESCRIPTION("fails as it is told");
MODULE_LICENSE("GPL");
