/* SPDX-License-Identifier: BSD-3-Clause */
/* test_virtio_mem.c - blocks plugged and unplugged: responses, states, what is accessible and what is freed. */
#include "one_discard.h"

#include <guestmem/part.h>
#include <guestmem/virtio_mem.h>
#include <pthread.h>

#include "random.h"

#define REGION GIB(1)
#define ROOM MIB(256)
#define BLOCK_SIZE MIB(2)

static struct gm_virtio_mem *mem;
static uint64_t id;

static struct gm_virtio_mem_info told(void)
{
	struct gm_virtio_mem_info info = {.size = sizeof(info)};

	assert_int_equal(gm_virtio_mem_info(mem, &info), 0);
	return info;
}

static void start_mem(uint32_t flags, const struct gm_virtio_mem_opts *opts)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4)));
	assert_ok(gm_space_add(space,
		DESC(.gpa = REGION, .granule = MIB(1), .part = GM_PART_UNPLUGGED,
			.backing = BLOCK(.len = ROOM, .flags = flags)),
		&id, &err));
	assert_ok(gm_virtio_mem_create(space, id, opts, &mem, &err));
}

static void stop_mem(void)
{
	gm_virtio_mem_destroy(mem);
	stop();
}

static int touch(uint64_t gpa)
{
	int rc = gm_write_u8(gm_reader_enter(reader), gpa, 5);

	gm_reader_leave(reader);
	return rc;
}

static uint32_t state_of(uint64_t addr, uint16_t nr)
{
	uint32_t s = 99;

	assert_int_equal(gm_virtio_mem_state(mem, addr, nr, &s), GM_VIRTIO_MEM_ACK);
	return s;
}

#define OPTS(...) GM_OPTS(gm_virtio_mem_opts, __VA_ARGS__)

static void check_blocks(uint32_t flags, uint32_t more)
{
	const struct gm_virtio_mem_opts *opts = OPTS(.requested = MIB(8), .flags = more);

	start_mem(flags, opts);
	assert_int_equal(told().block_size, BLOCK_SIZE);
	assert_int_equal(told().addr, REGION);
	assert_int_equal(told().region_size, ROOM);
	assert_int_equal(told().plugged, 0);
	assert_int_equal(told().usable, MIB(8) + MIB(128));
	assert_int_equal(touch(REGION), -EFAULT);
	assert_int_equal(gm_virtio_mem_plug(mem, REGION + BLOCK_SIZE, 3, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(told().plugged, 3 * BLOCK_SIZE);
	assert_int_equal(touch(REGION), -EFAULT);
	assert_int_equal(touch(REGION + BLOCK_SIZE - 1), -EFAULT);
	assert_int_equal(touch(REGION + 4 * BLOCK_SIZE), -EFAULT);
	assert_bytes(REGION + BLOCK_SIZE, 0, 3 * BLOCK_SIZE);
	fill_bytes(REGION + BLOCK_SIZE, 5, 3 * BLOCK_SIZE);
	assert_int_equal(state_of(REGION, 1), GM_VIRTIO_MEM_UNPLUGGED);
	assert_int_equal(state_of(REGION, 2), GM_VIRTIO_MEM_MIXED);
	assert_int_equal(state_of(REGION + BLOCK_SIZE, 3), GM_VIRTIO_MEM_PLUGGED);
	assert_int_equal(state_of(REGION + BLOCK_SIZE, 4), GM_VIRTIO_MEM_MIXED);
	/* The middle one goes, with its memory. */
	assert_int_equal(
		gm_virtio_mem_unplug(mem, REGION + 2 * BLOCK_SIZE, 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(told().plugged, 2 * BLOCK_SIZE);
	assert_int_equal(resident_at(host(REGION), ROOM), 2 * BLOCK_SIZE);
	assert_int_equal(touch(REGION + 2 * BLOCK_SIZE), -EFAULT);
	assert_bytes(REGION + BLOCK_SIZE, 5, BLOCK_SIZE);
	assert_bytes(REGION + 3 * BLOCK_SIZE, 5, BLOCK_SIZE);
	/* Plugged again it is zeros. */
	assert_int_equal(
		gm_virtio_mem_plug(mem, REGION + 2 * BLOCK_SIZE, 1, &err), GM_VIRTIO_MEM_ACK);
	assert_bytes(REGION + 2 * BLOCK_SIZE, 0, BLOCK_SIZE);
	assert_int_equal(gm_virtio_mem_unplug_all(mem, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(told().plugged, 0);
	assert_int_equal(resident_at(host(REGION), ROOM), 0);
	assert_int_equal(touch(REGION + BLOCK_SIZE), -EFAULT);
	assert_int_equal(gm_virtio_mem_unplug_all(mem, &err), GM_VIRTIO_MEM_ACK);
	stop_mem();
}

static void blocks_come_and_go(void **state)
{
	(void)state;
	check_blocks(0, 0);
	check_blocks(GM_BLOCK_SHARE, 0);
	check_blocks(0, GM_VIRTIO_MEM_GUARD);
	check_blocks(GM_BLOCK_SHARE, GM_VIRTIO_MEM_GUARD);
}

static void unplugged_memory_has_guard_pages(void **state)
{
	volatile uint8_t *hva;

	(void)state;
	start_mem(0, OPTS(.requested = MIB(8), .flags = GM_VIRTIO_MEM_GUARD));
	hva = host(REGION);
	/* As KVM would reach it: a system call shows that there is nothing. */
	assert_int_equal(syscall(SYS_getrandom, hva, 1, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(gm_virtio_mem_plug(mem, REGION, 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(syscall(SYS_getrandom, hva, 1, 1), 1);
	assert_int_equal(syscall(SYS_getrandom, hva + BLOCK_SIZE, 1, 1), -1);
	assert_int_equal(gm_virtio_mem_unplug(mem, REGION, 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(syscall(SYS_getrandom, hva, 1, 1), -1);
	stop_mem();
}

static void requests_that_cannot_be_are_errors(void **state)
{
	uint32_t s = 7;

	(void)state;
	start_mem(0, OPTS(.requested = MIB(8), .extra = MIB(8)));
	assert_int_equal(told().usable, MIB(16));
	for (int plug = 0; plug < 2; plug++) {
		int (*call)(struct gm_virtio_mem *, uint64_t, uint16_t, struct gm_error *) =
			plug ? gm_virtio_mem_plug : gm_virtio_mem_unplug;

		assert_int_equal(call(mem, REGION, 0, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, REGION + 1, 1, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, REGION + MIB(1), 1, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, REGION - BLOCK_SIZE, 1, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, 0, 1, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, REGION + MIB(16), 1, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, REGION + MIB(14), 2, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(call(mem, REGION, UINT16_MAX, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(
			call(mem, UINT64_MAX - BLOCK_SIZE + 1, 1, &err), GM_VIRTIO_MEM_ERROR);
		assert_int_equal(
			call(mem, UINT64_MAX - BLOCK_SIZE + 1, 2, &err), GM_VIRTIO_MEM_ERROR);
	}
	assert_int_equal(gm_virtio_mem_state(mem, REGION + 1, 1, &s), GM_VIRTIO_MEM_ERROR);
	assert_int_equal(gm_virtio_mem_state(mem, REGION, 0, &s), GM_VIRTIO_MEM_ERROR);
	assert_int_equal(s, 7);
	/* Plugged twice, unplugged twice, in part. */
	assert_int_equal(gm_virtio_mem_plug(mem, REGION, 2, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(
		gm_virtio_mem_plug(mem, REGION + BLOCK_SIZE, 2, &err), GM_VIRTIO_MEM_ERROR);
	assert_int_equal(
		gm_virtio_mem_unplug(mem, REGION + BLOCK_SIZE, 2, &err), GM_VIRTIO_MEM_ERROR);
	assert_int_equal(told().plugged, 2 * BLOCK_SIZE);
	/* More than is requested, exactly as much, less. */
	assert_int_equal(
		gm_virtio_mem_plug(mem, REGION + 2 * BLOCK_SIZE, 3, &err), GM_VIRTIO_MEM_NACK);
	assert_int_equal(
		gm_virtio_mem_plug(mem, REGION + 2 * BLOCK_SIZE, 2, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(gm_virtio_mem_set_requested(mem, MIB(2)), 0);
	assert_int_equal(
		gm_virtio_mem_plug(mem, REGION + 4 * BLOCK_SIZE, 1, &err), GM_VIRTIO_MEM_NACK);
	assert_int_equal(told().usable, MIB(16));
	assert_int_equal(gm_virtio_mem_unplug_all(mem, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(told().usable, MIB(10));
	assert_int_equal(gm_virtio_mem_set_requested(mem, MIB(1)), -EINVAL);
	assert_int_equal(gm_virtio_mem_set_requested(mem, ROOM + BLOCK_SIZE), -EINVAL);
	assert_int_equal(gm_virtio_mem_set_requested(mem, ROOM), 0);
	assert_int_equal(told().usable, ROOM);
	assert_int_equal(gm_virtio_mem_plug(mem, REGION, 128, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(told().plugged, ROOM);
	assert_int_equal(told().nacks, 2);
	assert_int_equal(told().errors, 24);
	/* Without its region there is no memory. */
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(gm_virtio_mem_unplug(mem, REGION, 1, &err), GM_VIRTIO_MEM_ERROR);
	stop_mem();
}

static void while_the_map_is_changed_it_is_busy(void **state)
{
	struct gm_txn *txn;

	(void)state;
	start_mem(0, OPTS(.requested = MIB(8)));
	assert_int_equal(gm_virtio_mem_plug(mem, REGION, 1, &err), GM_VIRTIO_MEM_ACK);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_int_equal(gm_virtio_mem_plug(mem, REGION + BLOCK_SIZE, 1, &err), GM_VIRTIO_MEM_BUSY);
	assert_int_equal(gm_virtio_mem_unplug(mem, REGION, 1, &err), GM_VIRTIO_MEM_BUSY);
	assert_int_equal(gm_virtio_mem_unplug_all(mem, &err), GM_VIRTIO_MEM_BUSY);
	gm_txn_abort(txn);
	assert_int_equal(told().plugged, BLOCK_SIZE);
	assert_int_equal(touch(REGION), 0);
	/* It must stay: then it is plugged as before. */
	assert_ok(gm_discard_inhibit(space, REGION, PAGE, GM_INHIBIT_ALL, &err));
	assert_int_equal(gm_virtio_mem_unplug(mem, REGION, 1, &err), GM_VIRTIO_MEM_BUSY);
	assert_int_equal(told().plugged, BLOCK_SIZE);
	assert_bytes(REGION, 5, 1);
	assert_int_equal(gm_discard_allow(space, REGION, PAGE, GM_INHIBIT_ALL), 0);
	/* What is coordinated is not forbidden to those that were told by the map. */
	assert_ok(gm_discard_inhibit(space, REGION, PAGE, GM_INHIBIT_UNCOORDINATED, &err));
	assert_int_equal(gm_virtio_mem_unplug(mem, REGION, 1, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(gm_discard_allow(space, REGION, PAGE, GM_INHIBIT_UNCOORDINATED), 0);
	assert_int_equal(told().busy, 4);
	stop_mem();
}

static void states_are_taken_from_the_region(void **state)
{
	struct gm_virtio_mem *other;

	(void)state;
	start_mem(0, OPTS(.requested = MIB(8)));
	assert_int_equal(gm_virtio_mem_plug(mem, REGION + BLOCK_SIZE, 2, &err), GM_VIRTIO_MEM_ACK);
	assert_int_equal(touch(REGION + BLOCK_SIZE), 0);
	gm_virtio_mem_destroy(mem);
	assert_ok(gm_virtio_mem_create(space, id, OPTS(.extra = BLOCK_SIZE), &mem, &err));
	assert_int_equal(told().plugged, 2 * BLOCK_SIZE);
	assert_int_equal(told().usable, 4 * BLOCK_SIZE);
	assert_int_equal(state_of(REGION + BLOCK_SIZE, 2), GM_VIRTIO_MEM_PLUGGED);
	assert_bytes(REGION + BLOCK_SIZE, 5, 1);
	/* Half a block. */
	assert_ok(gm_space_set_part(space, id, MIB(9), MIB(1), GM_PART_SHARED, &err));
	assert_fails(gm_virtio_mem_create(space, id, NULL, &other, &err), EINVAL, "in part");
	stop_mem();
}

static void arguments(void **state)
{
	struct gm_virtio_mem *other;
	uint64_t plain;

	(void)state;
	start_mem(0, NULL);
	plain = add(MIB(16), MIB(4));
	assert_fails(gm_virtio_mem_create(space, 12345, NULL, &other, &err), ENOENT, "no such");
	assert_fails(gm_virtio_mem_create(space, plain, NULL, &other, &err), EINVAL, "parts");
	assert_fails(gm_virtio_mem_create(space, id, OPTS(.block_size = MIB(3)), &other, &err),
		EINVAL, "blocks");
	assert_fails(gm_virtio_mem_create(space, id, OPTS(.block_size = KIB(512)), &other, &err),
		EINVAL, "blocks");
	assert_fails(gm_virtio_mem_create(space, id, OPTS(.requested = MIB(1)), &other, &err),
		EINVAL, "requested");
	assert_fails(
		gm_virtio_mem_create(space, id, OPTS(.flags = 2), &other, &err), EINVAL, "flags");
	gm_virtio_mem_destroy(NULL);
	stop_mem();
}

/* Random requests against an array, readers beside it. */
static int stop_;

static void *read_on(void *arg)
{
	struct gm_reader *own = arg;
	uint8_t byte;
	uint64_t at = 0;

	while (!__atomic_load_n(&stop_, __ATOMIC_RELAXED)) {
		const struct gm_view *view = gm_reader_enter(own);
		int rc = gm_read_u8(view, REGION + at % ROOM, &byte);

		/* Never a byte of what was there before it was plugged. */
		if ((rc && rc != -EFAULT) || (rc == 0 && byte))
			abort();
		gm_reader_leave(own);
		at += BLOCK_SIZE / 2 + 1;
	}
	return NULL;
}

static void random_requests_agree_with_an_array(void **state)
{
	uint8_t plugged[64] = {0};
	struct rng rng = {test_seed(8)};
	unsigned long rounds = support_scale(400);
	struct gm_reader *own;
	pthread_t thread;
	uint64_t sum = 0;

	(void)state;
	start_mem(0, OPTS(.requested = MIB(100)));
	assert_ok(gm_reader_create(space, "other", &own, &err));
	stop_ = 0;
	assert_int_equal(pthread_create(&thread, NULL, read_on, own), 0);
	for (unsigned long r = 0; r < rounds; r++) {
		uint64_t first = rng_below(&rng, 66);
		uint16_t nr = (uint16_t)rng_below(&rng, 10);
		bool plug = rng_below(&rng, 2);
		bool fits = nr && first + nr <= 64;
		int want = GM_VIRTIO_MEM_ACK;
		int rc;

		for (uint64_t i = first; fits && i < first + nr; i++) {
			if (plugged[i] == plug)
				want = GM_VIRTIO_MEM_ERROR;
		}
		if (!nr)
			want = GM_VIRTIO_MEM_ERROR;
		if (!fits && nr)
			continue;
		if (want == GM_VIRTIO_MEM_ACK && plug && sum + nr > 50)
			want = GM_VIRTIO_MEM_NACK;
		rc = (plug ? gm_virtio_mem_plug : gm_virtio_mem_unplug)(
			mem, REGION + first * BLOCK_SIZE, nr, &err);
		assert_int_equal(rc, want);
		if (rc != GM_VIRTIO_MEM_ACK)
			continue;
		memset(plugged + first, plug, nr);
		sum += plug ? nr : -(uint64_t)nr;
		assert_int_equal(told().plugged, sum * BLOCK_SIZE);
	}
	__atomic_store_n(&stop_, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	for (uint64_t i = 0; i < 64; i++) {
		assert_int_equal(touch(REGION + i * BLOCK_SIZE), plugged[i] ? 0 : -EFAULT);
		assert_int_equal(state_of(REGION + i * BLOCK_SIZE, 1),
			plugged[i] ? GM_VIRTIO_MEM_PLUGGED : GM_VIRTIO_MEM_UNPLUGGED);
	}
	gm_reader_destroy(own);
	stop_mem();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_and_go),
		cmocka_unit_test(unplugged_memory_has_guard_pages),
		cmocka_unit_test(requests_that_cannot_be_are_errors),
		cmocka_unit_test(while_the_map_is_changed_it_is_busy),
		cmocka_unit_test(states_are_taken_from_the_region),
		cmocka_unit_test(arguments),
		cmocka_unit_test(random_requests_agree_with_an_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
