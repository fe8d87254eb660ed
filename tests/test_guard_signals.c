/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_guard_signals.c - signals that are not ours go to whoever had them before.
 *
 * What needs its own signal handlers, or dies, runs in a forked child.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <guestmem/guestmem.h>

#include "handmade.h"
#include "sys/guard.h"

#define PAGE ((size_t)4096)

static uint8_t buf[2 * PAGE];
static struct handmade hand;

/* ---- in children ---- */

/* In a child: a failed check ends it with a line number. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                    \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

/* Both signals as the child is to find them: sanitizers bring handlers of their own. */
static void set_both(void (*handler)(int))
{
	signal(SIGBUS, handler);
	signal(SIGSEGV, handler);
}

static int in_child(void (*run)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		set_both(SIG_DFL);
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define assert_survives(run) assert_int_equal(in_child(run), 0)
#define assert_dies(run, sig)                                                                      \
	do {                                                                                       \
		int status_ = in_child(run);                                                       \
		assert_true(WIFSIGNALED(status_));                                                 \
		assert_int_equal(WTERMSIG(status_), sig);                                          \
	} while (0)

static volatile uint8_t *wild; /* a page without access */

static void make_wild(void)
{
	wild = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(wild != MAP_FAILED);
}

/* A truncated file, for children (no assertions of cmocka). */
static const struct gm_view *truncated_view(void)
{
	int fd = memfd_create("t", MFD_CLOEXEC);
	void *at;

	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
	at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED);
	return handmade_one(&hand, at, 2 * PAGE, GM_PERM_RW);
}

static void check_guarded(const struct gm_view *view)
{
	size_t done = 77;
	uint64_t value;

	CHECK(gm_read(view, PAGE - 10, buf, 100, &done) == -EIO && done == 10);
	CHECK(gm_read_u64(view, PAGE, &value) == -EIO);
}

static void touch_wild(void)
{
	CHECK(gm_guard_install() == 0);
	check_guarded(truncated_view());
	make_wild();
	(void)*wild;
	_exit(1);
}

static void touch_truncated_unguarded(void)
{
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0);
	check_guarded(view);
	(void)*(volatile char *)(uintptr_t)(view->window_base + PAGE);
	_exit(1);
}

static void send_bus(void)
{
	CHECK(gm_guard_install() == 0);
	raise(SIGBUS);
	_exit(1);
}

static void send_segv_blocked(void)
{
	sigset_t set;

	CHECK(gm_guard_install() == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGSEGV);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(1);
}

static void send_memory_failure(int code)
{
	siginfo_t info = {.si_signo = SIGBUS, .si_code = code, .si_addr = buf};

	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info) == 0);
}

static void send_action_optional(void)
{
	CHECK(gm_guard_install() == 0);
	send_memory_failure(BUS_MCEERR_AO);
	_exit(1);
}

static void without_install(void)
{
	const struct gm_view *view = truncated_view();

	gm_read(view, PAGE, buf, 1, NULL);
	_exit(1);
}

static void after_remove(void)
{
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0 && gm_guard_install() == 0);
	CHECK(gm_guard_remove() == 0);
	check_guarded(view);
	CHECK(gm_guard_check() == 0);
	CHECK(gm_guard_remove() == 0);
	CHECK(gm_guard_check() == -ENOENT);
	CHECK(gm_guard_remove() == -ENOENT);
	gm_read(view, PAGE, buf, 1, NULL);
	_exit(1);
}

static void the_default_action_still_kills(void **state)
{
	(void)state;
	assert_dies(touch_wild, SIGSEGV);
	assert_dies(touch_truncated_unguarded, SIGBUS);
	assert_dies(send_bus, SIGBUS);
	assert_dies(send_segv_blocked, SIGSEGV);
	assert_dies(send_action_optional, SIGBUS);
	assert_dies(without_install, SIGBUS);
	assert_dies(after_remove, SIGBUS);
}

static void ignore_sent(void)
{
	const struct gm_view *view = truncated_view();

	set_both(SIG_IGN);
	CHECK(gm_guard_install() == 0);
	raise(SIGBUS);
	kill(getpid(), SIGSEGV);
	send_memory_failure(BUS_MCEERR_AO);
	check_guarded(view);
	CHECK(gm_guard_remove() == 0);
	raise(SIGBUS);
}

static void ignore_fault(void)
{
	set_both(SIG_IGN);
	CHECK(gm_guard_install() == 0);
	make_wild();
	(void)*wild;
	_exit(1);
}

static void ignored_signals_stay_ignored_and_faults_kill(void **state)
{
	(void)state;
	assert_survives(ignore_sent);
	assert_dies(ignore_fault, SIGSEGV);
}

/* ---- a previous handler ---- */

static volatile sig_atomic_t seen;
static siginfo_t seen_info;
static sigset_t seen_mask;
static void *seen_context;
static sigjmp_buf escape;

static void mend(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	seen++;
	seen_info = *info;
	seen_context = context;
	sigprocmask(SIG_SETMASK, NULL, &seen_mask);
	errno = 12345;
	mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE);
}

static void leap(int sig)
{
	(void)sig;
	seen++;
	siglongjmp(escape, 1);
}

static void count(int sig)
{
	(void)sig;
	seen++;
}

static void set_previous(struct sigaction act)
{
	CHECK(sigaction(SIGBUS, &act, NULL) == 0 && sigaction(SIGSEGV, &act, NULL) == 0);
}

static void previous_gets_foreign_faults(void)
{
	struct sigaction act = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
	struct sigaction now;
	const struct gm_view *view = truncated_view();

	sigaddset(&act.sa_mask, SIGUSR1);
	set_previous(act);
	CHECK(gm_guard_install() == 0);
	check_guarded(view);
	CHECK(seen == 0);
	make_wild();
	errno = 7;
	wild[5] = 1;
	CHECK(errno == 7);
	CHECK(seen == 1 && seen_info.si_signo == SIGSEGV && seen_info.si_code == SEGV_ACCERR);
	CHECK(seen_info.si_addr == (void *)(uintptr_t)(wild + 5) && seen_context);
	CHECK(sigismember(&seen_mask, SIGSEGV) == 1 && sigismember(&seen_mask, SIGUSR1) == 1);
	CHECK(sigismember(&seen_mask, SIGUSR2) == 0 && sigismember(&seen_mask, SIGBUS) == 0);
	CHECK(gm_guard_check() == 0);
	CHECK(gm_guard_remove() == 0);
	CHECK(sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_sigaction == mend);
	CHECK(now.sa_flags & SA_SIGINFO && sigismember(&now.sa_mask, SIGUSR1) == 1);
}

static void previous_may_leap(void)
{
	const struct gm_view *view = truncated_view();

	set_previous((struct sigaction){.sa_handler = leap});
	CHECK(gm_guard_install() == 0);
	make_wild();
	for (int i = 0; i < 3; i++) {
		if (sigsetjmp(escape, 1) == 0) {
			(void)*wild;
			_exit(1);
		}
	}
	CHECK(seen == 3);
	check_guarded(view);
}

static void previous_runs_once_with_resethand(void)
{
	set_previous(
		(struct sigaction){.sa_handler = leap, .sa_flags = (int)SA_RESETHAND | SA_NODEFER});
	CHECK(gm_guard_install() == 0);
	make_wild();
	if (sigsetjmp(escape, 1) == 0) {
		(void)*wild;
		_exit(1);
	}
	CHECK(seen == 1);
	(void)*wild;
	_exit(1);
}

static void previous_gets_what_is_sent(void)
{
	set_previous((struct sigaction){.sa_handler = count});
	CHECK(gm_guard_install() == 0);
	raise(SIGBUS);
	kill(getpid(), SIGSEGV);
	send_memory_failure(BUS_MCEERR_AO);
	CHECK(seen == 3);
}

static void other_signals_go_to_the_previous_handler(void **state)
{
	(void)state;
	assert_survives(previous_gets_foreign_faults);
	assert_survives(previous_may_leap);
	assert_dies(previous_runs_once_with_resethand, SIGSEGV);
	assert_survives(previous_gets_what_is_sent);
}

/* ---- signals sent in the middle of guarded accesses are not taken for faults ---- */

static bool stop; /* atomic */
static unsigned int sent;

static void *send_many(void *arg)
{
	pthread_t to = *(pthread_t *)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (pthread_kill(to, SIGBUS) == 0)
			sent++;
		for (int i = 0; i < 200; i++)
			sched_yield();
	}
	return NULL;
}

static void copies_under_fire(void)
{
	pthread_t self = pthread_self();
	pthread_t thread;
	const struct gm_view *view = truncated_view();
	uint64_t before = gm_guard_fault_count();

	set_previous((struct sigaction){.sa_handler = count});
	CHECK(gm_guard_install() == 0);
	CHECK(pthread_create(&thread, NULL, send_many, &self) == 0);
	for (int i = 0; i < 200000; i++)
		CHECK(gm_read(view, 0, buf, PAGE, NULL) == 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	CHECK(sent > 0 && seen > 0 && gm_guard_fault_count() == before);
}

static void a_sent_signal_is_no_fault(void **state)
{
	(void)state;
	assert_survives(copies_under_fire);
}

/* ---- the caller's own bad buffer ---- */

static void read_into_wild(void)
{
	CHECK(gm_guard_install() == 0);
	make_wild();
	gm_read(truncated_view(), 0, (void *)(uintptr_t)wild, 100, NULL);
	_exit(1);
}

static void write_from_wild(void)
{
	CHECK(gm_guard_install() == 0);
	make_wild();
	gm_write(truncated_view(), 0, (void *)(uintptr_t)wild, 8, NULL);
	_exit(1);
}

static void compare_with_wild(void)
{
	int order;

	CHECK(gm_guard_install() == 0);
	make_wild();
	gm_compare(truncated_view(), 0, (void *)(uintptr_t)wild, 64, &order, NULL);
	_exit(1);
}

/* Somebody who maps the caller's pages on demand is served, and the copy goes on. */
static void mended_buffer_is_filled(void)
{
	struct sigaction act = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
	const struct gm_view *view = truncated_view();
	static const size_t lens[] = {1, 8, 30, 64, 100, 200, 500, 1000, 4000, PAGE};
	size_t done;

	CHECK(gm_fill(view, 0, 0x77, PAGE, NULL) == 0);
	set_previous(act);
	CHECK(gm_guard_install() == 0);
	make_wild();
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		CHECK(mprotect((void *)(uintptr_t)wild, PAGE, PROT_NONE) == 0);
		seen = 0;
		CHECK(gm_read(view, 0, (void *)(uintptr_t)wild, lens[i], &done) == 0);
		CHECK(done == lens[i] && wild[0] == 0x77 && wild[lens[i] - 1] == 0x77);
		CHECK(seen > 0);
		CHECK(mprotect((void *)(uintptr_t)wild, PAGE, PROT_NONE) == 0);
		seen = 0;
		CHECK(gm_write(view, 0, (void *)(uintptr_t)wild, lens[i], &done) == 0 &&
			done == lens[i]);
		CHECK(seen > 0);
	}
}

static void a_bad_buffer_of_the_caller_is_no_guest_error(void **state)
{
	(void)state;
	assert_dies(read_into_wild, SIGSEGV);
	assert_dies(write_from_wild, SIGSEGV);
	assert_dies(compare_with_wild, SIGSEGV);
	assert_survives(mended_buffer_is_filled);
}

/* ---- somebody else's handler over ours ---- */

static struct sigaction under;

static void call_under(int sig, siginfo_t *info, void *context)
{
	seen++;
	if (under.sa_flags & SA_SIGINFO)
		under.sa_sigaction(sig, info, context);
	else if (under.sa_handler != SIG_DFL && under.sa_handler != SIG_IGN)
		under.sa_handler(sig);
	else
		_exit(55);
}

static void replaced_is_noticed(void)
{
	struct sigaction act = {.sa_handler = count};

	CHECK(gm_guard_install() == 0);
	CHECK(gm_guard_check() == 0);
	CHECK(sigaction(SIGSEGV, &act, NULL) == 0);
	CHECK(gm_guard_check() == -ESTALE);
	CHECK(gm_guard_install() == -ESTALE);
	CHECK(gm_guard_remove() == -ESTALE);
	CHECK(gm_guard_remove() == -ENOENT);
	/* Theirs stays. */
	raise(SIGSEGV);
	CHECK(seen == 1);
	/* Under a handler that may call ours we do not go over it; over none we do. */
	CHECK(gm_guard_install() == -ESTALE);
	CHECK(gm_guard_check() == -ENOENT);
	signal(SIGSEGV, SIG_DFL);
	CHECK(gm_guard_install() == 0);
	check_guarded(truncated_view());
	CHECK(gm_guard_remove() == 0);
}

static void a_handler_over_ours_may_call_it(void)
{
	struct sigaction act = {.sa_sigaction = call_under, .sa_flags = SA_SIGINFO};
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0);
	CHECK(sigaction(SIGBUS, &act, &under) == 0);
	check_guarded(view);
	CHECK(seen > 0);
	CHECK(gm_guard_remove() == -ESTALE);
	/* Ours passes everything on now: the default action. */
	(void)*(volatile char *)(uintptr_t)(view->window_base + PAGE);
	_exit(1);
}

static void buried_and_back(void)
{
	struct sigaction act = {.sa_sigaction = call_under, .sa_flags = SA_SIGINFO};
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0);
	CHECK(sigaction(SIGBUS, &act, &under) == 0);
	CHECK(gm_guard_remove() == -ESTALE);
	CHECK(sigaction(SIGBUS, &under, NULL) == 0);
	CHECK(gm_guard_install() == 0);
	check_guarded(view);
	CHECK(gm_guard_remove() == 0);
	gm_read(view, PAGE, buf, 1, NULL);
	_exit(1);
}

static void a_replaced_handler_is_noticed(void **state)
{
	(void)state;
	assert_survives(replaced_is_noticed);
	assert_dies(a_handler_over_ours_may_call_it, SIGBUS);
	assert_dies(buried_and_back, SIGBUS);
}

/* ---- threads ---- */

static void *fault_many(void *arg)
{
	const struct gm_view *view = arg;
	uint8_t own[200];
	size_t done;

	for (int i = 0; i < 3000; i++) {
		size_t dist = (size_t)i % 150;

		if (gm_read(view, PAGE - dist, own, 200, &done) != -EIO || done != dist)
			return arg;
	}
	return NULL;
}

static void *add_and_drop(void *arg)
{
	static const struct gm_extable_entry tables[8][2];

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 8; i++)
			gm_guard_add_table(tables[i], tables[i] + 2);
		for (int i = 0; i < 8; i++)
			gm_guard_drop_table(tables[i], tables[i] + 2);
		if (gm_guard_install() || gm_guard_remove())
			return arg;
	}
	return NULL;
}

static void threads_fault_at_once(void)
{
	const struct gm_view *view = truncated_view();
	pthread_t threads[4];
	pthread_t other;
	uint64_t before = gm_guard_fault_count();
	void *bad;

	CHECK(gm_guard_install() == 0);
	CHECK(pthread_create(&other, NULL, add_and_drop, buf) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, fault_many, (void *)(uintptr_t)view) == 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &bad);
		CHECK(!bad);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(other, &bad);
	CHECK(!bad && gm_guard_fault_count() >= before + 4 * 3000);
	CHECK(gm_guard_remove() == 0);
}

static void many_threads_may_fault_at_once(void **state)
{
	(void)state;
	assert_survives(threads_fault_at_once);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_default_action_still_kills),
		cmocka_unit_test(ignored_signals_stay_ignored_and_faults_kill),
		cmocka_unit_test(other_signals_go_to_the_previous_handler),
		cmocka_unit_test(a_sent_signal_is_no_fault),
		cmocka_unit_test(a_bad_buffer_of_the_caller_is_no_guest_error),
		cmocka_unit_test(a_replaced_handler_is_noticed),
		cmocka_unit_test(many_threads_may_fault_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
