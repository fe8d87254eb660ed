/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_example_net.c - examples/vhost_net with our own front-end and drivers: packets of all lengths and shapes, too
 * little room, chains and rings that break rules. The program is argument 1.
 */
#include "one_net.h"

static void begin(uint64_t features)
{
	n.nr_rings = 2;
	start_program(NULL, NULL);
	open_front(features, -1);
}

static void finish(void)
{
	close_front();
	end_program();
}

static bool was_told(int fd)
{
	uint64_t nr;

	return read(fd, &nr, sizeof(nr)) == sizeof(nr);
}

static void round_trips(uint64_t features)
{
	const size_t lengths[] = {1, 60, 61, 1514, 2036, 2037, 4096, 9000};
	const uint32_t room = features & MRG_RXBUF ? 2048 : 9100;
	unsigned long total = 0;
	uint32_t nr = 0;

	begin(features);
	for (uint32_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			const uint32_t parts = 1 + (round * 3 + (uint32_t)i) % 7;

			offer(0, features & MRG_RXBUF ? 5 : 1, room, 1 + (uint32_t)i % 3);
			send_packet(0, nr, lengths[i], parts, true);
			receive(0, nr, lengths[i], room);
			total += lengths[i];
			nr++;
			/* Start with no buffers that are left over. */
			assert_ok(gm_vhost_frontend_ring_stop(n.fe, RX, NULL, &err));
			start_ring(RX);
		}
	}
	assert_counts(0, nr, nr, 0, 0);
	assert_int_equal(ask_counts(0).taken_bytes, total);
	finish();
}

static void packets_of_all_lengths_come_back(void **state)
{
	(void)state;
	round_trips(0);
	round_trips(MRG_RXBUF);
	round_trips(VERSION_1);
	round_trips(VERSION_1 | MRG_RXBUF | INDIRECT);
	round_trips(VERSION_1 | MRG_RXBUF | EVENT | IN_ORDER);
}

static void packets_come_back_in_packed_rings(void **state)
{
	(void)state;
	round_trips(VERSION_1 | PACKED);
	round_trips(VERSION_1 | PACKED | MRG_RXBUF | INDIRECT | EVENT);
	round_trips(VERSION_1 | PACKED | MRG_RXBUF | IN_ORDER);
}

/* Many more than the ring has entries, and as many at once as it has. */
static void rings_go_round(uint64_t features)
{
	uint32_t got;

	begin(features);
	for (uint32_t i = 0; i < support_scale(5); i++) {
		const struct gm_chain_elem packet = {.gpa = TX_AT, .len = n.header + 60};

		offer(0, NR, 128, 1);
		for (uint32_t p = 0; p < NR; p++)
			add(TX, &packet, 1, 0);
		show(TX, true);
		for (uint32_t p = 0; p < NR; p++)
			wait_for(TX, &got);
		for (uint32_t p = 0; p < NR; p++) {
			assert_true(take(RX, &got) >= 0);
			assert_int_equal(got, n.header + 60);
		}
	}
	assert_counts(0, support_scale(5) * NR, support_scale(5) * NR, 0, 0);
	finish();
}

static void full_rings_are_passed_on(void **state)
{
	(void)state;
	rings_go_round(VERSION_1);
	rings_go_round(VERSION_1 | EVENT | MRG_RXBUF);
	rings_go_round(VERSION_1 | PACKED | EVENT);
	rings_go_round(VERSION_1 | PACKED | IN_ORDER);
}

static void without_receive_buffers_packets_are_dropped(void **state)
{
	(void)state;
	begin(VERSION_1 | MRG_RXBUF);
	for (uint32_t i = 0; i < 100; i++)
		send_packet(0, i, 60, 1, true);
	assert_counts(0, 100, 0, 100, 0);
	offer(0, 1, 2048, 1);
	send_packet(0, 5, 60, 1, true);
	receive(0, 5, 60, 2048);
	assert_counts(0, 101, 1, 100, 0);
	/* And without a receive ring. */
	assert_ok(gm_vhost_frontend_ring_stop(n.fe, RX, NULL, &err));
	send_packet(0, 6, 60, 1, true);
	assert_counts(0, 102, 1, 101, 0);
	finish();
}

static void buffers_that_are_too_small_stay(void **state)
{
	const uint64_t kinds[] = {VERSION_1, VERSION_1 | PACKED, VERSION_1 | MRG_RXBUF,
		VERSION_1 | MRG_RXBUF | PACKED | IN_ORDER};
	uint32_t got;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		const bool mergeable = kinds[i] & MRG_RXBUF;

		begin(kinds[i]);
		offer(0, mergeable ? 3 : 1, 100, 1);
		send_packet(0, 0, 289, 2, true);
		send_packet(0, 1, 9000, 2, true);
		assert_int_equal(take(RX, &got), -1);
		assert_counts(0, 2, 0, 2, 0);
		send_packet(0, 2, 88, 2, true);
		receive(0, 2, 88, 100);
		/* More buffers, and it fits: in three, or in one that is long enough. */
		offer(0, 1, mergeable ? 100 : 9012, 1);
		send_packet(0, 3, 288, 2, true);
		receive(0, 3, 288, mergeable ? 100 : 9012);
		assert_counts(0, 4, 2, 2, 0);
		finish();
	}
}

/* What is in flight is recorded, so a chain cannot be put back: it comes back empty. */
static void small_buffers_that_are_tracked_come_back_empty(void **state)
{
	uint32_t got = 1;

	(void)state;
	begin(VERSION_1 | MRG_RXBUF | 1);
	offer(0, 2, 100, 1);
	send_packet(0, 0, 1500, 1, true);
	for (int i = 0; i < 2; i++) {
		assert_true(take(RX, &got) >= 0);
		assert_int_equal(got, 0);
	}
	offer(0, 1, 2048, 1);
	send_packet(0, 1, 1500, 1, true);
	receive(0, 1, 1500, 2048);
	assert_counts(0, 2, 1, 1, 0);
	finish();
}

static void send_chain(const struct gm_chain_elem *elems, size_t nr)
{
	uint32_t got;

	add(TX, elems, nr, 0);
	show(TX, true);
	wait_for(TX, &got);
	assert_int_equal(got, 0);
}

static void chains_that_hold_no_packet_are_counted(void **state)
{
	const struct gm_chain_elem one[][2] = {
		{{.gpa = TX_AT, .len = 1}},
		{{.gpa = TX_AT, .len = 12}},
		{{.gpa = TX_AT, .len = 12 + 65537}},
		{{.gpa = TX_AT, .len = UINT32_MAX}},
		{{.gpa = TX_AT, .len = 100, .flags = GM_CHAIN_WRITE}},
		{{.gpa = NOWHERE, .len = 100}},
		{{.gpa = RAM - 50, .len = 100}},
		{{.gpa = TX_AT, .len = 12}, {.gpa = NOWHERE, .len = 60}},
		{{.gpa = NOWHERE, .len = 12}, {.gpa = NOWHERE, .len = 60}},
	};
	const uint64_t kinds[] = {VERSION_1 | MRG_RXBUF, VERSION_1 | PACKED | MRG_RXBUF};

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		begin(kinds[k]);
		offer(0, 40, 2048, 1);
		for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++)
			send_chain(one[i], one[i][1].len ? 2 : 1);
		/* A header that cannot be read is no harm, as nobody looks at it. */
		send_chain((const struct gm_chain_elem[]){{.gpa = NOWHERE, .len = 12},
				   {.gpa = TX_AT + 12, .len = 60}},
			2);
		/* The longest; what the device may write besides is left alone. */
		send_chain((const struct gm_chain_elem[]){{.gpa = TX_AT, .len = 12 + 65536},
				   {.gpa = NOWHERE, .len = 8, .flags = GM_CHAIN_WRITE}},
			2);
		assert_counts(0, 2, 2, 0, sizeof(one) / sizeof(one[0]));
		finish();
	}
}

static void receive_chains_that_cannot_be_written_are_counted(void **state)
{
	const struct gm_chain_elem readable = {.gpa = RX_AT, .len = 2048};
	const struct gm_chain_elem nowhere = {.gpa = NOWHERE, .len = 2048, .flags = GM_CHAIN_WRITE};
	const struct gm_chain_elem end = {.gpa = RAM - 64, .len = 2048, .flags = GM_CHAIN_WRITE};
	uint32_t got = 1;

	(void)state;
	begin(VERSION_1 | MRG_RXBUF);
	add(RX, &nowhere, 1, 0);
	add(RX, &end, 1, 0);
	show(RX, true);
	send_packet(0, 0, 60, 1, true);
	assert_true(take(RX, &got) >= 0);
	assert_int_equal(got, 0);
	send_packet(0, 1, 60, 1, true);
	assert_true(take(RX, &got) >= 0);
	assert_int_equal(got, 64);
	assert_counts(0, 2, 0, 0, 2);
	/* One without room goes along with the next that has some. */
	add(RX, &readable, 1, 0);
	offer(0, 1, 2048, 1);
	send_packet(0, 2, 60, 1, true);
	assert_true(take(RX, &got) >= 0);
	assert_int_equal(got, 0);
	assert_true(take(RX, &got) >= 0);
	assert_int_equal(got, 72);
	assert_counts(0, 3, 1, 0, 2);
	finish();
}

/* A split ring is told of more entries than it has; a packed one of a chain without an end. One chain was taken. */
static void spoil(uint32_t index)
{
	const struct gm_virtq_opts opts = opts_of(index);
	const struct gm_view *view = gm_reader_enter(n.reader);

	if (!(n.features & PACKED))
		assert_int_equal(gm_write_le16(view, opts.driver + 2, 0x4000), 0);
	for (uint32_t i = 0; i < NR && (n.features & PACKED); i++)
		assert_int_equal(
			gm_write_le16(view, opts.desc + 16 * i + 14, i ? 0x0081 : 0x8001), 0);
	gm_reader_leave(n.reader);
}

/* Says so to the front-end, lives on, and serves the ring when it is started again. */
static void a_ring_that_breaks_rules_is_given_up(uint32_t index, uint64_t features)
{
	const uint64_t one = 1;
	char name[32];

	begin(features);
	offer(0, 4, 2048, 1);
	send_packet(0, 0, 60, 1, true);
	receive(0, 0, 60, 2048);
	spoil(index);
	if (index == RX)
		send_packet(0, 1, 9000, 1, true); /* more than the buffers that it knows of */
	assert_int_equal(write(n.rings[index].kick, &one, sizeof(one)), sizeof(one));
	snprintf(name, sizeof(name), "queue %u is broken", index);
	hear(name, 0);
	assert_int_equal(
		poll(&(struct pollfd){.fd = n.rings[index].error, .events = POLLIN}, 1, WAIT_MS),
		1);
	assert_true(was_told(n.rings[index].error));
	for (uint32_t i = 0; i < 2; i++) {
		assert_ok(gm_vhost_frontend_ring_stop(n.fe, i, NULL, &err));
		start_ring(i);
	}
	offer(0, 4, 2048, 1);
	send_packet(0, 2, 60, 1, true);
	receive(0, 2, 60, 2048);
	finish();
}

static void rings_that_break_rules_are_given_up(void **state)
{
	(void)state;
	a_ring_that_breaks_rules_is_given_up(TX, VERSION_1 | MRG_RXBUF);
	a_ring_that_breaks_rules_is_given_up(RX, VERSION_1 | MRG_RXBUF);
	a_ring_that_breaks_rules_is_given_up(TX, VERSION_1 | MRG_RXBUF | PACKED);
	a_ring_that_breaks_rules_is_given_up(RX, VERSION_1 | MRG_RXBUF | PACKED);
}

static void pairs_are_served_by_themselves(void **state)
{
	(void)state;
	n.nr_rings = 2 * PAIRS;
	start_program("--queues", "3");
	open_front(VERSION_1 | MRG_RXBUF | MQ, -1);
	for (uint32_t i = 0; i < 20; i++) {
		for (uint32_t pair = 0; pair < PAIRS; pair++) {
			offer(pair, 1, 2048, 1);
			send_packet(pair, i + pair, 60 + i, 2, true);
			receive(pair, i + pair, 60 + i, 2048);
		}
	}
	/* Memory comes and goes under them. */
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t id;

		assert_ok(gm_space_add(n.space,
			GM_OPTS(gm_region_desc, .gpa = NOWHERE,
				.backing = GM_OPTS(
					gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_SHARE)),
			&id, &err));
		offer(1, 1, 2048, 1);
		send_packet(1, i, 99, 2, true);
		receive(1, i, 99, 2048);
		assert_ok(gm_space_remove(n.space, id, &err));
	}
	for (uint32_t pair = 0; pair < PAIRS; pair++)
		assert_counts(pair, 20 + 5 * (pair == 1), 20 + 5 * (pair == 1), 0, 0);
	finish();
}

static void with_poll_nobody_kicks(void **state)
{
	(void)state;
	n.nr_rings = 2;
	start_program("--poll", NULL);
	for (uint32_t round = 0; round < 2; round++) {
		open_front(VERSION_1 | MRG_RXBUF | (round ? PACKED : 0), -1);
		for (uint32_t i = 0; i < 20; i++) {
			offer(0, 1, 2048, 1);
			send_packet(0, i, 60, 1, false);
			receive(0, i, 60, 2048);
		}
		close_front();
	}
	end_program();
}

/* The front-end listens; the device comes back when it was left. */
static void with_connect_it_comes_to_the_front_end(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	n.nr_rings = 2;
	start_program("--connect", NULL);
	memcpy(addr.sun_path, path, strlen(path));
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	for (uint32_t round = 0; round < 3; round++) {
		int fd = accept(listener, NULL, NULL);

		assert_true(fd >= 0);
		open_front(VERSION_1, fd);
		close(fd);
		offer(0, 1, 2048, 1);
		send_packet(0, round, 60, 1, true);
		receive(0, round, 60, 2048);
		close_front();
	}
	close(listener);
	unlink(path);
	end_program();
}

static int status_of(char *const argv[])
{
	int status = 0;
	int out;
	pid_t pid = spawn(argv, &out);

	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void what_it_is_told_is_checked(void **state)
{
	char *name = (char *)(uintptr_t)program;
	char option[] = "--queues";
	char zero[] = "0";
	char many[] = "65";
	char unknown[] = "--what";
	char nowhere[] = "/nonexistent/socket";
	char bytes[200];

	(void)state;
	memset(bytes, 'x', sizeof(bytes) - 1);
	bytes[sizeof(bytes) - 1] = '\0';
	assert_int_equal(status_of((char *[]){name, NULL}), 2);
	assert_int_equal(status_of((char *[]){name, path, path, NULL}), 2);
	assert_int_equal(status_of((char *[]){name, option, zero, path, NULL}), 2);
	assert_int_equal(status_of((char *[]){name, option, many, path, NULL}), 2);
	assert_int_equal(status_of((char *[]){name, unknown, path, NULL}), 2);
	assert_int_equal(status_of((char *[]){name, bytes, NULL}), 2);
	assert_int_equal(status_of((char *[]){name, nowhere, NULL}), 1);
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_of_all_lengths_come_back),
		cmocka_unit_test(packets_come_back_in_packed_rings),
		cmocka_unit_test(full_rings_are_passed_on),
		cmocka_unit_test(without_receive_buffers_packets_are_dropped),
		cmocka_unit_test(buffers_that_are_too_small_stay),
		cmocka_unit_test(small_buffers_that_are_tracked_come_back_empty),
		cmocka_unit_test(chains_that_hold_no_packet_are_counted),
		cmocka_unit_test(receive_chains_that_cannot_be_written_are_counted),
		cmocka_unit_test(rings_that_break_rules_are_given_up),
		cmocka_unit_test(pairs_are_served_by_themselves),
		cmocka_unit_test(with_poll_nobody_kicks),
		cmocka_unit_test(with_connect_it_comes_to_the_front_end),
		cmocka_unit_test(what_it_is_told_is_checked),
	};

	if (argc != 2)
		return 2;
	program = argv[1];
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
