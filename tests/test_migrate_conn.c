/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_conn.c - one connection of a migration: each message there and back, in pieces of all sizes, over Unix
 * sockets and TCP; what is packed; how much memory and how many system calls it takes. What a peer does wrong is in
 * test_migrate_conn_bad.c, what the kernel refuses in test_migrate_conn_fault.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "migrate_pair.h"
#include "random.h"
#include "services/codec.h"

#define BULK 1u

static void move_all(enum pair_kind kind, size_t most)
{
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		struct gm_migrate_heard heard;
		struct pair p;
		size_t len;

		if (!sample_can(s) || (kind == OVER_TCP && s->type == GM_MIGRATE_LAYOUT))
			continue;
		free(sample_bytes(s, &len));
		if (most < 1000 && len > 10000)
			continue;
		sample_open(&p, kind, s);
		/* Twice: nothing of the first is left. */
		for (int turn = 0; turn < 2; turn++) {
			sample_say(p.c[s->from], s);
			assert_int_equal(pair_move(&p, s->from, most, &heard), 1);
			sample_check(&heard, s);
			assert_false(gm_migrate_conn_sends(p.c[s->from]));
			assert_false(gm_migrate_conn_hears(p.c[!s->from]));
		}
		assert_int_equal(gm_migrate_conn_went(p.c[s->from]), 2 * len);
		assert_int_equal(gm_migrate_conn_came(p.c[!s->from]), 2 * len);
		assert_int_equal(gm_migrate_conn_came(p.c[s->from]), 0);
		pair_close(&p);
	}
}

static void messages_come_as_they_were_said(void **state)
{
	(void)state;
	move_all(OVER_UNIX, SIZE_MAX);
	move_all(OVER_TCP, SIZE_MAX);
}

static void messages_come_in_pieces_of_any_size(void **state)
{
	static const size_t most[] = {1, 2, 23, 24, 25, 47, 48, 49, 1000, 4095};

	(void)state;
	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++)
		move_all(OVER_UNIX, most[i]);
	move_all(OVER_TCP, 1);
	move_all(OVER_TCP, 70000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_come_as_they_were_said),
		cmocka_unit_test(messages_come_in_pieces_of_any_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
