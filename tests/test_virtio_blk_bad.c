/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtio_blk_bad.c - drivers that break rules: each request is answered as the specification says, nothing on the
 * disk changes, and the next request is served.
 */
#include "one_blk.h"

#define NOWHERE GIB(3)

static struct line *line;

static void begin(void)
{
	line = new_line();
}

/* What comes back: the status, and how many bytes are said to be written. */
static void end(uint8_t status, uint32_t len)
{
	uint8_t got = serve(line, 0);

	assert_int_equal(got, status);
	assert_int_equal(line->len, len);
}

static void head(uint32_t type, uint64_t sector)
{
	add_head(line, type, sector, WHOLE, NULL);
}

static void data(size_t len)
{
	static const uint8_t bytes[KIB(8)];

	add_bytes(line, bytes, len, 0, WHOLE, NULL);
}

static void room(size_t len)
{
	add_room(line, len, WHOLE, NULL);
}

static uint8_t before[DISK_LEN];

static void open_disk(void)
{
	start_device(mem_disk(), 64, 0);
	for (size_t i = 0; i < DISK_LEN; i++)
		before[i] = mem.bytes[i] = (uint8_t)(i * 3 + i / 511);
}

/* Nothing has changed, nothing is out, and all goes on. */
static void close_disk(void)
{
	uint8_t bytes[SECTOR];

	assert_memory_equal(mem.bytes, before, DISK_LEN);
	assert_int_equal(gm_virtio_blk_out(q), 0);
	assert_int_equal(read_sectors(1, bytes, SECTOR, 0), 0);
	assert_memory_equal(bytes, before + SECTOR, SECTOR);
	stop_device();
}

static void headers_that_are_cut_are_errors(void **state)
{
	(void)state;
	open_disk();
	for (size_t len = 0; len < 16; len++) {
		static const uint8_t bytes[16];

		begin();
		if (len)
			add_bytes(line, bytes, len, 0, WHOLE, NULL);
		room(1);
		end(1, 1);
	}
	begin();
	room(513);
	end(1, 0);
	assert_int_equal(stats_of().bad, 17);
	close_disk();
}

static void a_chain_without_room_for_a_status_comes_back_empty(void **state)
{
	(void)state;
	open_disk();
	for (uint32_t type = 0; type < 16; type++) {
		begin();
		head(type, 0);
		data(type == OUT ? 512 : 0);
		assert_int_equal(offer(line, 0), 0);
		show_driver();
		await(line);
		assert_int_equal(line->len, 0);
	}
	/* Elements of no bytes are none. */
	begin();
	head(OUT, 0);
	data(512);
	line->elems[line->nr++] = (struct gm_chain_elem){.gpa = line->at, .flags = GM_CHAIN_WRITE};
	assert_int_equal(offer(line, 0), 0);
	show_driver();
	await(line);
	assert_int_equal(line->len, 0);
	assert_int_equal(stats_of().unanswered, 17);
	close_disk();
}

static void sectors_beyond_the_end_are_errors(void **state)
{
	static const struct {
		uint64_t sector;
		size_t len;
	} cases[] = {
		{SECTORS, 512},
		{SECTORS - 1, 1024},
		{SECTORS + 1, 512},
		{UINT64_MAX, 512},
		{UINT64_MAX / 512, 512},
		{UINT64_MAX / 512 + 1, 512},
		{UINT64_C(1) << 55, 512},
		{UINT64_C(1) << 63, 1024},
		{UINT64_MAX - 1, 1024},
		{SECTORS + 1, 0},
	};

	(void)state;
	open_disk();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		begin();
		head(IN, cases[i].sector);
		room(cases[i].len + 1);
		end(1, cases[i].len ? 0 : 1);
		begin();
		head(OUT, cases[i].sector);
		data(cases[i].len);
		room(1);
		end(1, 1);
	}
	assert_int_equal(stats_of().bad, 20);
	close_disk();
}

static void lengths_that_are_no_sectors_are_errors(void **state)
{
	static const size_t lens[] = {1, 511, 513, 1000};

	(void)state;
	open_disk();
	for (size_t i = 0; i < 4; i++) {
		begin();
		head(IN, 0);
		room(lens[i] + 1);
		end(1, 0);
		begin();
		head(OUT, 0);
		data(lens[i]);
		room(1);
		end(1, 1);
	}
	/* No sectors at all are fine. */
	begin();
	head(IN, SECTORS);
	room(1);
	end(0, 1);
	begin();
	head(OUT, 0);
	room(1);
	end(0, 1);
	close_disk();
}

static void data_of_the_wrong_direction_are_errors(void **state)
{
	(void)state;
	open_disk();
	begin();
	head(IN, 0);
	data(512);
	room(513);
	end(1, 0);
	begin();
	head(OUT, 0);
	data(512);
	room(513);
	end(1, 0);
	begin();
	head(DISCARD, 0);
	data(16);
	room(2);
	end(1, 0);
	begin();
	head(GET_ID, 0);
	room(1);
	end(1, 1);
	close_disk();
}

static void types_that_nobody_knows_are_not_supported(void **state)
{
	static const uint32_t types[] = {
		2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 0x80000000u, UINT32_MAX};

	(void)state;
	open_disk();
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		begin();
		head(types[i], 0);
		data(i % 2 ? 512 : 0);
		room(1);
		end(2, 1);
		begin();
		head(types[i], 0);
		room(100);
		end(2, 0);
	}
	assert_int_equal(
		stats_of().requests[GM_VIRTIO_BLK_OTHERS], sizeof(types) / sizeof(*types) * 2);
	close_disk();
}

static void segments_that_cannot_be_are_errors(void **state)
{
	static const struct {
		struct segment segment;
		uint8_t status;
	} cases[] = {
		{{SECTORS, 1, 0}, 1},
		{{SECTORS - 1, 2, 0}, 1},
		{{UINT64_MAX, 1, 0}, 1},
		{{UINT64_MAX - 1, UINT32_MAX, 0}, 1},
		{{0, UINT32_MAX, 0}, 1},
		{{0, 1, 2}, 2},
		{{0, 1, 0x80000000u}, 2},
		{{SECTORS, 0, 0}, 0},
		{{0, 0, 0}, 0},
	};
	struct segment many[17] = {{0}};

	(void)state;
	open_disk();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(send_segments(DISCARD, &cases[i].segment, 1, 0), cases[i].status);
		assert_int_equal(send_segments(ZEROES, &cases[i].segment, 1, 0), cases[i].status);
	}
	/* The second is wrong: nothing of the first is done. */
	many[0] = (struct segment){0, 8, 0};
	many[1] = (struct segment){SECTORS, 8, 0};
	assert_int_equal(send_segments(ZEROES, many, 2, 0), 1);
	assert_int_equal(send_segments(DISCARD, many, 2, 0), 1);
	memset(many, 0, sizeof(many));
	assert_int_equal(send_segments(ZEROES, many, 16, 0), 0);
	assert_int_equal(send_segments(ZEROES, many, 17, 0), 1);
	for (size_t len = 0; len < 48; len++) {
		begin();
		head(ZEROES, 0);
		data(len);
		room(1);
		end(len % 16 || !len ? 1 : 0, 1);
	}
	close_disk();
}

/* ---- memory that is not there ---- */

static void add_nowhere(size_t len, uint32_t flags)
{
	line->elems[line->nr++] =
		(struct gm_chain_elem){.gpa = NOWHERE, .len = len, .flags = flags};
}

static void memory_that_is_not_there_is_an_error(void **state)
{
	(void)state;
	open_disk();
	/* The header. */
	begin();
	add_nowhere(16, 0);
	room(1);
	end(1, 1);
	/* Data. */
	begin();
	head(OUT, 0);
	add_nowhere(512, 0);
	room(1);
	end(1, 1);
	/* Segments. */
	begin();
	head(ZEROES, 0);
	add_nowhere(16, 0);
	room(1);
	end(1, 1);
	/* Room for data: the status is in other memory. */
	begin();
	head(IN, 0);
	add_nowhere(512, GM_CHAIN_WRITE);
	room(1);
	assert_int_equal(offer(line, 0), 0);
	show_driver();
	await(line);
	assert_int_equal(line->len, 0);
	assert_int_equal(peek(line->elems[line->nr - 1].gpa, 1), 1);
	/* Half of it. */
	begin();
	head(IN, 0);
	room(256);
	add_nowhere(256, GM_CHAIN_WRITE);
	room(1);
	assert_int_equal(offer(line, 0), 0);
	show_driver();
	await(line);
	assert_int_equal(line->len, 0);
	assert_int_equal(peek(line->elems[line->nr - 1].gpa, 1), 1);
	assert_int_equal(stats_of().unanswered, 0);
	/* The status. */
	begin();
	head(FLUSH, 0);
	add_nowhere(1, GM_CHAIN_WRITE);
	assert_int_equal(offer(line, 0), 0);
	show_driver();
	await(line);
	assert_int_equal(line->len, 0);
	assert_int_equal(stats_of().unanswered, 1);
	close_disk();
}

/* What is under way is answered though the ring is broken; then it is started anew. */
static void a_broken_ring_stops_nobody_who_is_under_way(void **state)
{
	struct line *first;
	int rc;

	(void)state;
	open_disk();
	mem.held = 1;
	begin();
	first = line;
	head(IN, 0);
	room(513);
	assert_int_equal(offer(first, 0), 0);
	show_driver();
	assert_int_equal(gm_virtio_blk_run(q, 0, &err), 0);
	/* An index that jumps. */
	poke(DRIVER_AT + 2, 5000, 2);
	assert_fails(gm_virtio_blk_run(q, 0, &err), EPROTO, "queue");
	mem.held = 0;
	rc = gm_virtio_blk_run(q, 0, &err);
	assert_int_equal(rc, -EPROTO);
	assert_ptr_equal(take_back(), first);
	assert_int_equal(status_of(first), 0);
	poke(DRIVER_AT + 2, 1, 2);
	close_disk();
}

/* Ranges of garbage for elements, headers and sides, on a disk that must not change. */
static void noise_changes_nothing(void **state)
{
	unsigned long rounds = support_scale(3000);
	struct rng rng = {test_seed(77)};

	(void)state;
	open_disk();
	for (unsigned long i = 0; i < rounds; i++) {
		static const uint32_t types[] = {IN, IN, FLUSH, GET_ID, DISCARD, ZEROES, 77};
		size_t readable;

		begin();
		head(types[rng_below(&rng, 7)], rng_edge(&rng));
		line->elems[0].len = rng_below(&rng, 8) ? 16 : rng_below(&rng, 30);
		readable = rng_below(&rng, 3);
		line->nr += readable + rng_below(&rng, 6);
		for (size_t k = 1; k < line->nr; k++) {
			struct gm_chain_elem *e = &line->elems[k];

			*e = (struct gm_chain_elem){
				.gpa = rng_below(&rng, 8)
					       ? buffers_of(line) + rng_below(&rng, KIB(32))
					       : rng_edge(&rng),
				.len = rng_below(&rng, 4) ? rng_below(&rng, 1200) : 512,
				.flags = k > readable ? GM_CHAIN_WRITE : 0};
			if (e->len && e->len - 1 > UINT64_MAX - e->gpa)
				e->len = 0;
			/* What might be a segment is one that cannot be. */
			if (k <= readable)
				e->gpa = NOWHERE;
		}
		assert_int_equal(offer(line, 0), 0);
		show_driver();
		await(line);
		assert_true(line->len <= room_of(line));
	}
	close_disk();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_that_are_cut_are_errors),
		cmocka_unit_test(a_chain_without_room_for_a_status_comes_back_empty),
		cmocka_unit_test(sectors_beyond_the_end_are_errors),
		cmocka_unit_test(lengths_that_are_no_sectors_are_errors),
		cmocka_unit_test(data_of_the_wrong_direction_are_errors),
		cmocka_unit_test(types_that_nobody_knows_are_not_supported),
		cmocka_unit_test(segments_that_cannot_be_are_errors),
		cmocka_unit_test(memory_that_is_not_there_is_an_error),
		cmocka_unit_test(a_broken_ring_stops_nobody_who_is_under_way),
		cmocka_unit_test(noise_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
