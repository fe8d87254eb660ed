/* SPDX-License-Identifier: BSD-3-Clause */
/* test_migrate_conn_none.c - a build without checksums has no connections of migrations, and says so. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "services/migrate_conn.h"
#include "support.h"

static void without_sums_there_is_no_connection(void **state)
{
	static const struct gm_migrate_terms terms = {.source = true};
	struct gm_migrate_conn *c = NULL;
	struct gm_error err;
	int fds[2];
	long blocks = fault_blocks();

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_fails(gm_migrate_conn_create(fds[0], &terms, &c, &err), ENOTSUP, "checksums");
	assert_null(c);
	assert_int_equal(fault_blocks(), blocks);
	/* It is the caller's, and as it was. */
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_sums_there_is_no_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
