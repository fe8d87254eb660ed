/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_open.c - userfaultfds: who gets one and by which way, what those without privilege are told, and features
 * that a kernel has not.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fault.h"
#include "one_pager.h"

#define LEN MIB(1)
#define NOBODY 65534
#define API_CALL 3 /* ioctl: the mapping is looked at, the fd is made, then it is negotiated */

/* ---- another user ---- */

static bool may_anybody(void)
{
	FILE *file = fopen("/proc/sys/vm/unprivileged_userfaultfd", "r");
	int value = 1;

	if (file) {
		if (fscanf(file, "%d", &value) != 1)
			value = 1;
		fclose(file);
	}
	return value;
}

/* In a mount namespace of its own, so that the machine's device stays as it is. */
static bool give_device(void)
{
	struct stat st;

	return stat("/dev/userfaultfd", &st) == 0 && unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/mnt", "tmpfs", 0, "mode=755") == 0 &&
	       mknod("/mnt/device", S_IFCHR, st.st_rdev) == 0 && chmod("/mnt/device", 0666) == 0 &&
	       mount("/mnt/device", "/dev/userfaultfd", NULL, MS_BIND, NULL) == 0;
}

/* What happens to that user. */
struct tried {
	int rc;
	bool said_what_to_do;
	bool own_touch;
	int kernel_touch; /* errno, 0: it was served */
};

static void try_here(struct tried *ret, uint32_t flags)
{
	uint8_t *at = map_anon(LEN);
	int fds[2];

	start_pager(LEN);
	ret->rc = gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .flags = flags), NULL, &err);
	ret->said_what_to_do = strstr(err.text, "setfacl") && strstr(err.text, "USER_ONLY");
	if (ret->rc)
		return;
	start_stepping();
	ret->own_touch = has_words(at, 0, PAGE);
	if (pipe(fds) == 0)
		ret->kernel_touch = write(fds[1], at + PAGE, 8) == 8 ? 0 : errno;
	stop_pager();
}

static struct tried try_as_nobody(uint32_t flags, bool device)
{
	struct tried got = {.rc = 1};
	int status;
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		if ((device && !give_device()) || setresgid(NOBODY, NOBODY, NOBODY) ||
			setresuid(NOBODY, NOBODY, NOBODY))
			_exit(2);
		try_here(&got, flags);
		_exit(write(fds[1], &got, sizeof(got)) == sizeof(got) ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(fds[0], &got, sizeof(got)), sizeof(got));
	close(fds[0]);
	close(fds[1]);
	return got;
}

/* R2, R17 */
static void without_privilege_it_is_said_what_to_do(void **state)
{
	struct tried got;

	(void)state;
	if (geteuid() != 0 || may_anybody()) {
		printf("skipped: not root, or userfaultfd is for everybody\n");
		skip();
	}
	got = try_as_nobody(0, false);
	assert_int_equal(got.rc, -EPERM);
	assert_true(got.said_what_to_do);
	/* Its own accesses are served, those of system calls are errors and no zeros. */
	got = try_as_nobody(GM_PAGER_USER_ONLY, false);
	assert_int_equal(got.rc, 0);
	assert_true(got.own_touch);
	assert_int_equal(got.kernel_touch, EFAULT);
}

static void who_may_open_the_device_has_all_faults(void **state)
{
	struct tried got;

	(void)state;
	if (geteuid() != 0 || access("/dev/userfaultfd", F_OK)) {
		printf("skipped: not root, or no /dev/userfaultfd\n");
		skip();
	}
	got = try_as_nobody(0, true);
	assert_int_equal(got.rc, 0);
	assert_true(got.own_touch);
	assert_int_equal(got.kernel_touch, 0);
}

static void the_call_serves_where_there_is_no_device(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	/* The first file that is opened is /proc/self/maps. */
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_open, .nth = 2, .error = ENOENT});
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	assert_int_equal(fault_hits(), 1);
	assert_int_equal(fault_calls(FAULT_gm_sys_userfaultfd), 1);
	fault_set(NULL);
	stop_pager();
	munmap(at, LEN);
}

/* ---- features ---- */

/* R3: a refused negotiation is repeated with less, with the same fd. */
static void older_kernels_have_less(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_ioctl, .nth = API_CALL, .error = EINVAL});
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	assert_int_equal(fault_hits(), 1);
	/* Once more, and the registration. */
	assert_int_equal(fault_calls(FAULT_gm_sys_ioctl), API_CALL + 2);
	fault_set(NULL);
	start_stepping();
	assert_true(has_words(at, 0, LEN));
	stop_pager();
	munmap(at, LEN);
}

static void a_kernel_that_cannot_is_named(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_ioctl, .nth = API_CALL, .forever = true, .error = EINVAL});
	assert_fails(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err),
		ENOTSUP, "cannot do this");
	fault_set(NULL);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	stop_pager();
	munmap(at, LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_privilege_it_is_said_what_to_do),
		cmocka_unit_test(who_may_open_the_device_has_all_faults),
		cmocka_unit_test(the_call_serves_where_there_is_no_device),
		cmocka_unit_test(older_kernels_have_less),
		cmocka_unit_test(a_kernel_that_cannot_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
