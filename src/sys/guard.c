/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.c - the handler that turns a fault on guest memory into an error.
 *
 * This is the one process-wide state of the library: the handlers of SIGBUS and SIGSEGV, put in
 * place when asked for, counted, and chained. A signal that is not ours goes to whoever had it
 * before, as the kernel would have given it: with their mask, or the default action with the
 * original siginfo.
 *
 * The handler may run in any thread at any point. It reads only the slots of the registry and the
 * tables they name. All signals are blocked meanwhile (sa_mask), so that nothing interrupts a
 * thread that holds a slot; a slot is emptied first and reused when nobody holds it. SA_NODEFER is
 * not set: a fault inside the handler would be a bug of ours or a stale table, and the kernel then
 * ends the process. SA_ONSTACK is, since runtimes with small stacks insist on it.
 *
 * Control functions take one mutex. They are not called from signal handlers.
 */
#include "sys/guard.h"

#include <errno.h>
#include <guestmem/guard.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/guard_arch.h"
#include "sys/sys.h"

typedef const struct gm_extable_entry *table_ptr;

struct table {
	_Atomic(table_ptr) start;
	_Atomic(table_ptr) end;
	atomic_uint holders; /* handlers that look at it now */
	unsigned int count;  /* how often it was added; under the lock */
};

/*
 * One of the two signals. @prev is written before our handler can run for it, and again only while
 * it is not installed. @buried: somebody has put a handler over ours and may call it.
 */
struct hook {
	int sig;
	bool buried;
	atomic_bool spent; /* @prev was SA_RESETHAND and has run */
	struct sigaction prev;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int installs;    /* under the lock */
static atomic_bool active;       /* installs > 0, for the handler */
static _Atomic uint64_t handled; /* faults turned into errors */
static struct table tables[GM_GUARD_TABLES_MAX];
static struct hook hooks[] = {{.sig = SIGBUS}, {.sig = SIGSEGV}};

#define NR_HOOKS (sizeof(hooks) / sizeof(hooks[0]))

/* ---- looking up ---- */

#if GM_GUARD_ASM

/* The library's own tables: of guard.S, and of the inline functions that it exports as symbols. */
extern const struct gm_extable_entry __start_gm_extable_asm[] __attribute__((visibility("hidden")));
extern const struct gm_extable_entry __stop_gm_extable_asm[] __attribute__((visibility("hidden")));
#define OWN_START ((table_ptr)(const void *)__start_gm_extable)
#define OWN_END ((table_ptr)(const void *)__stop_gm_extable)

static uintptr_t lookup(table_ptr entry, table_ptr end, uintptr_t pc)
{
	for (; entry < end; entry++) {
		if ((uintptr_t)&entry->insn + (uintptr_t)(intptr_t)entry->insn == pc)
			return (uintptr_t)&entry->fixup + (uintptr_t)(intptr_t)entry->fixup;
	}
	return 0;
}

static uintptr_t lookup_slot(struct table *slot, uintptr_t pc)
{
	uintptr_t fixup = 0;
	table_ptr start;

	if (!atomic_load_explicit(&slot->start, memory_order_relaxed))
		return 0;
	/* Pairs with gm_guard_drop_table(): either it sees this holder, or we see its NULL. */
	atomic_fetch_add_explicit(&slot->holders, 1, memory_order_seq_cst);
	start = atomic_load_explicit(&slot->start, memory_order_seq_cst);
	if (start)
		fixup = lookup(start, atomic_load_explicit(&slot->end, memory_order_relaxed), pc);
	atomic_fetch_sub_explicit(&slot->holders, 1, memory_order_release);
	return fixup;
}

static bool resume(const siginfo_t *info, ucontext_t *uc)
{
	uintptr_t pc = gm_arch_pc(uc);
	uintptr_t fixup = lookup(__start_gm_extable_asm, __stop_gm_extable_asm, pc);

	if (fixup) {
		uint64_t kind = (uint32_t)info->si_signo | (uint64_t)(uint32_t)info->si_code << 32;

		gm_arch_tell(uc, (uintptr_t)info->si_addr, kind);
	} else {
		fixup = lookup(OWN_START, OWN_END, pc);
		for (unsigned int i = 0; !fixup && i < GM_GUARD_TABLES_MAX; i++)
			fixup = lookup_slot(&tables[i], pc);
		if (!fixup)
			return false;
	}
	gm_arch_resume(uc, fixup);
	atomic_fetch_add_explicit(&handled, 1, memory_order_relaxed);
	return true;
}

#else

#define OWN_START ((table_ptr)NULL)
#define OWN_END ((table_ptr)NULL)

static bool resume(const siginfo_t *info, ucontext_t *uc)
{
	gm_guard_generic_fault(info, uc, &handled);
	return false;
}

#endif

/* ---- passing on ---- */

/* Not caused by the instruction at the program counter: it would not happen again. */
static bool is_sent(const siginfo_t *info)
{
	return info->si_code <= 0 || (info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

/* The default action: a fault happens again without a handler, another signal is sent again as it
 * came. */
static void default_action(int sig, siginfo_t *info)
{
	struct sigaction act = {.sa_handler = SIG_DFL};

	sigaction(sig, &act, NULL);
	if (is_sent(info))
		syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, info);
}

static void pass_on(struct hook *hook, siginfo_t *info, ucontext_t *uc)
{
	const struct sigaction *prev = &hook->prev;
	sigset_t mask;

	if (prev->sa_handler == SIG_IGN && is_sent(info))
		return;
	/* The kernel does not let a fault be ignored: it kills. */
	if (prev->sa_handler == SIG_IGN || prev->sa_handler == SIG_DFL ||
		((prev->sa_flags & (int)SA_RESETHAND) &&
			atomic_exchange_explicit(&hook->spent, true, memory_order_relaxed))) {
		default_action(hook->sig, info);
		return;
	}

	/* They get the mask that they asked for; it may matter to one that leaves by siglongjmp. */
	sigemptyset(&mask);
	for (int sig = 1; sig < NSIG; sig++) {
		if (sigismember(&uc->uc_sigmask, sig) == 1 ||
			sigismember(&prev->sa_mask, sig) == 1 ||
			(sig == hook->sig && !(prev->sa_flags & SA_NODEFER)))
			sigaddset(&mask, sig);
	}
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (prev->sa_flags & SA_SIGINFO)
		prev->sa_sigaction(hook->sig, info, uc);
	else
		prev->sa_handler(hook->sig);
}

static void handler(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	/* A signal that was sent may find us at any instruction, also at a guarded one. */
	if (!atomic_load_explicit(&active, memory_order_relaxed) || is_sent(info) ||
		!resume(info, context))
		pass_on(sig == SIGBUS ? &hooks[0] : &hooks[1], info, context);
	errno = saved;
}

/* ---- signals ---- */

static bool is_ours(const struct sigaction *act)
{
	return (act->sa_flags & SA_SIGINFO) && act->sa_sigaction == handler;
}

static int hook_install(struct hook *hook)
{
	struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction now;
	int rc = gm_sys_sigaction(hook->sig, NULL, &now);

	if (rc)
		return rc;
	if (is_ours(&now)) /* what had buried us is gone */
		return 0;
	/* A handler over ours may call ours; put over it, ours would call it for ever. */
	if (hook->buried && now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN)
		return -ESTALE;
	hook->prev = now;
	hook->buried = false;
	atomic_store_explicit(&hook->spent, false, memory_order_relaxed);
	sigfillset(&act.sa_mask);
	/* System calls go on after a signal that the previous owner ignores or handles with
	 * SA_RESTART. */
	if (now.sa_handler == SIG_IGN || (now.sa_flags & SA_RESTART))
		act.sa_flags |= SA_RESTART;
	return gm_sys_sigaction(hook->sig, &act, NULL);
}

static int hook_check(const struct hook *hook)
{
	struct sigaction now;
	int rc = gm_sys_sigaction(hook->sig, NULL, &now);

	if (rc)
		return rc;
	return is_ours(&now) ? 0 : -ESTALE;
}

static int hook_remove(struct hook *hook)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	bool spent = atomic_load_explicit(&hook->spent, memory_order_relaxed);
	int rc = hook_check(hook);

	if (rc) {
		hook->buried = true;
		return rc;
	}
	return gm_sys_sigaction(hook->sig, spent ? &dfl : &hook->prev, NULL);
}

static int install_locked(void)
{
	for (size_t i = 0; i < NR_HOOKS; i++) {
		int rc = hook_install(&hooks[i]);

		if (rc) {
			while (i-- > 0)
				hook_remove(&hooks[i]);
			return rc;
		}
	}
	return 0;
}

static int check_locked(void)
{
	int rc = installs ? 0 : -ENOENT;

	for (size_t i = 0; i < NR_HOOKS && !rc; i++)
		rc = hook_check(&hooks[i]);
	return rc;
}

static int remove_locked(void)
{
	int ret = 0;

	for (size_t i = 0; i < NR_HOOKS; i++) {
		int rc = hook_remove(&hooks[i]);

		if (rc)
			ret = rc;
	}
	return ret;
}

/* ---- tables ---- */

static struct table *find_table(table_ptr start)
{
	for (unsigned int i = 0; i < GM_GUARD_TABLES_MAX; i++) {
		if (tables[i].count &&
			atomic_load_explicit(&tables[i].start, memory_order_relaxed) == start)
			return &tables[i];
	}
	return NULL;
}

static struct table *free_table(void)
{
	for (unsigned int i = 0; i < GM_GUARD_TABLES_MAX; i++) {
		if (!tables[i].count)
			return &tables[i];
	}
	return NULL;
}

/* Nothing to register: empty, or known to the handler anyway. */
static bool needs_no_slot(const void *start, const void *end)
{
	return start == end || start == (const void *)OWN_START;
}

int gm_guard_add_table(const void *start, const void *end)
{
	struct table *slot;
	int rc = 0;

	if (needs_no_slot(start, end))
		return 0;
	if (!GM_GUARD_ASM)
		return -ENOTSUP;
	if (!start || (uintptr_t)end < (uintptr_t)start ||
		((uintptr_t)end - (uintptr_t)start) % sizeof(struct gm_extable_entry))
		return -EINVAL;

	pthread_mutex_lock(&lock);
	slot = find_table(start);
	if (!slot) {
		slot = free_table();
		if (slot) {
			atomic_store_explicit(&slot->end, end, memory_order_relaxed);
			atomic_store_explicit(&slot->start, start, memory_order_release);
		}
	}
	if (slot)
		slot->count++;
	else
		rc = -ENOSPC;
	pthread_mutex_unlock(&lock);
	return rc;
}

void gm_guard_drop_table(const void *start, const void *end)
{
	struct table *slot;

	if (needs_no_slot(start, end))
		return;
	pthread_mutex_lock(&lock);
	slot = find_table(start);
	if (slot && --slot->count == 0) {
		atomic_store_explicit(&slot->start, NULL, memory_order_seq_cst);
		/* Handlers do not block, and new ones see the NULL: this ends soon. */
		while (atomic_load_explicit(&slot->holders, memory_order_seq_cst))
			sched_yield();
	}
	pthread_mutex_unlock(&lock);
}

/* ---- public ---- */

int gm_guard_install_table(const void *start, const void *end)
{
	int rc = gm_guard_add_table(start, end);

	if (rc)
		return rc;
	pthread_mutex_lock(&lock);
	rc = installs ? check_locked() : install_locked();
	if (!rc) {
		installs++;
		atomic_store_explicit(&active, true, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	if (rc)
		gm_guard_drop_table(start, end);
	return rc;
}

int gm_guard_remove_table(const void *start, const void *end)
{
	int rc = 0;

	pthread_mutex_lock(&lock);
	if (!installs) {
		rc = -ENOENT;
	} else if (--installs == 0) {
		atomic_store_explicit(&active, false, memory_order_relaxed);
		rc = remove_locked();
	}
	pthread_mutex_unlock(&lock);
	if (rc != -ENOENT)
		gm_guard_drop_table(start, end);
	return rc;
}

int gm_guard_check(void)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = check_locked();
	pthread_mutex_unlock(&lock);
	return rc;
}

uint64_t gm_guard_fault_count(void)
{
	return atomic_load_explicit(&handled, memory_order_relaxed);
}

int gm_guard_errno(const struct gm_guard_fault *fault)
{
	if (fault->signo == SIGSEGV && fault->code == SEGV_ACCERR)
		return -EACCES;
	return fault->signo == SIGBUS && fault->code == BUS_MCEERR_AR ? -EHWPOISON : -EIO;
}
