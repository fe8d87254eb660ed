/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_discard_gate.c - who may forbid a discard, who is asked and told; discards beside readers, writers, each
 * other and changes of the map; memory that is reached by calls.
 */
#include "one_discard.h"

#include <guestmem/backend.h>
#include <guestmem/grant.h>
#include <guestmem/iommu.h>
#include <guestmem/listener.h>
#include <guestmem/part.h>
#include <guestmem/txn.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

/* ---- inhibitions ---- */

static void inhibitions_are_counted(void **state)
{
	struct gm_discard_result *r = result();

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MIB(4));
	assert_ok(gm_discard_inhibit(space, MIB(1), MIB(1), GM_INHIBIT_ALL, &err));
	assert_ok(gm_discard_inhibit(space, MIB(1), MIB(1), GM_INHIBIT_ALL, &err));
	assert_ok(gm_discard_inhibit(space, MIB(2), MIB(1), GM_INHIBIT_UNCOORDINATED, &err));
	assert_ok(gm_discard(space, 0, MIB(1), 0, 0, r, &err));
	assert_fails(gm_discard(space, 0, MIB(1) + 1, 0, GM_DISCARD_COORDINATED, r, &err), EBUSY,
		"0x100000");
	assert_fails(gm_discard(space, MIB(3) - 1, MIB(1), 0, 0, r, &err), EBUSY, "0x2fffff");
	assert_ok(gm_discard(space, MIB(2), MIB(1), 0, GM_DISCARD_COORDINATED, r, &err));
	/* What keeps the bytes is free. */
	assert_ok(gm_discard(space, 0, MIB(4), GM_DISCARD_COLD, 0, r, &err));
	assert_int_equal(
		gm_discard_allow(space, MIB(1), MIB(1), GM_INHIBIT_UNCOORDINATED), -ENOENT);
	assert_int_equal(gm_discard_allow(space, MIB(1), MIB(2), GM_INHIBIT_ALL), -ENOENT);
	assert_int_equal(gm_discard_allow(space, MIB(1), MIB(1), GM_INHIBIT_ALL), 0);
	assert_fails(gm_discard(space, MIB(1), PAGE, 0, 0, r, &err), EBUSY, "inhibited");
	assert_int_equal(gm_discard_allow(space, MIB(1), MIB(1), GM_INHIBIT_ALL), 0);
	assert_ok(gm_discard(space, MIB(1), PAGE, 0, 0, r, &err));
	assert_int_equal(gm_discard_allow(space, MIB(1), MIB(1), GM_INHIBIT_ALL), -ENOENT);
	assert_fails(gm_discard_inhibit(space, 0, 0, 7, &err), EINVAL, "kind");
	assert_fails(gm_discard_inhibit(space, 2, UINT64_MAX, 0, &err), ERANGE, "wrap");
	/* The one at 2 MiB goes with the space. */
	stop();
}

/* ---- listeners ---- */

#define EVENTS 64

struct ear {
	struct gm_listener *listener;
	struct gm_discard_event events[EVENTS];
	size_t nr;
	uint64_t refuse; /* an address, or 0 */
	const char *why;
	struct ear *other; /* of higher priority: asked before, told after */
};

static int hear(void *ctx, const struct gm_discard_event *event, struct gm_error *e)
{
	struct ear *ear = ctx;
	struct gm_txn *txn;

	assert_true(ear->nr < EVENTS);
	ear->events[ear->nr++] = *event;
	if (ear->other && event->phase == GM_DISCARD_ASK)
		assert_true(ear->other->nr >= ear->nr);
	if (ear->other && event->phase == GM_DISCARD_DONE)
		assert_true(ear->other->nr < ear->nr);
	/* The map cannot be changed in it. */
	assert_int_equal(gm_txn_begin(space, &txn, NULL), -EBUSY);
	if (event->phase == GM_DISCARD_ASK && ear->refuse == event->gpa && ear->refuse) {
		if (ear->why)
			snprintf(e->text, sizeof(e->text), "%s", ear->why);
		return -EPERM;
	}
	return 0;
}

static void listen(struct ear *ear, int priority, uint32_t kinds)
{
	struct gm_listener_ops ops = {.size = sizeof(ops),
		.name = priority ? "upper" : "lower",
		.priority = priority,
		.kinds = kinds,
		.discard = hear,
		.ctx = ear};

	assert_ok(gm_listener_create(space, &ops, &ear->listener, &err));
}

static void assert_event(
	const struct ear *ear, size_t i, uint32_t phase, uint64_t gpa, uint64_t len)
{
	const struct gm_discard_event *e = &ear->events[i];

	assert_true(i < ear->nr);
	assert_int_equal(e->phase, phase);
	assert_int_equal(e->gpa, gpa);
	assert_int_equal(e->len, len);
	assert_ptr_equal(e->hva, host(gpa));
	assert_non_null(e->block);
	assert_int_equal(e->code, 0);
}

static void listeners_are_asked_and_told(void **state)
{
	struct ear upper = {0};
	struct ear lower = {.other = &upper};
	struct gm_discard_result *r = result();
	uint32_t pfns[2] = {0, 2};

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MIB(2));
	add(MIB(2), MIB(2));
	listen(&lower, 0, 0);
	listen(&upper, 5, 0);
	fill_bytes(0, 1, MIB(4));
	assert_ok(gm_discard(space, MIB(1) + 1, MIB(2), GM_DISCARD_NOW, 0, r, &err));
	/* Both pieces are asked for before the first is done. */
	assert_int_equal(lower.nr, 4);
	assert_event(&lower, 0, GM_DISCARD_ASK, MIB(1) + PAGE, MIB(1) - PAGE);
	assert_event(&lower, 1, GM_DISCARD_ASK, MIB(2), MIB(1));
	assert_event(&lower, 2, GM_DISCARD_DONE, MIB(1) + PAGE, MIB(1) - PAGE);
	assert_event(&lower, 3, GM_DISCARD_DONE, MIB(2), MIB(1));
	assert_int_equal(upper.nr, 4);
	/* Lists are too; modes that keep the bytes are not. */
	upper.nr = lower.nr = 0;
	assert_ok(gm_discard(space, 0, MIB(1), GM_DISCARD_COLD, 0, r, &err));
	assert_int_equal(lower.nr, 0);
	assert_ok(gm_discard_pfns(space, pfns, 2, NULL, r, &err));
	assert_int_equal(lower.nr, 4);
	assert_event(&lower, 1, GM_DISCARD_DONE, 0, PAGE);
	assert_event(&lower, 2, GM_DISCARD_ASK, 2 * PAGE, PAGE);
	assert_int_equal(r->done, 2 * PAGE);
	assert_int_equal(r->ways, BY(DONTNEED));
	assert_ok(gm_listener_destroy(lower.listener, &err));
	assert_ok(gm_listener_destroy(upper.listener, &err));
	lower.nr = 0;
	assert_ok(gm_discard(space, 0, MIB(1), GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(lower.nr, 0);
	stop();
}

static void a_refusal_leaves_all_as_it_was(void **state)
{
	struct ear upper = {0};
	struct ear lower = {0};
	struct gm_discard_result *r = result();
	struct gm_discard_range ranges[2] = {{0, PAGE}, {MIB(2), PAGE}};

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MIB(2));
	add(MIB(2), MIB(2));
	fill_bytes(0, 1, MIB(4));
	listen(&lower, 0, 0);
	listen(&upper, 5, 0);
	lower.refuse = MIB(2);
	lower.why = "the device is in it";
	assert_fails(gm_discard(space, MIB(1), MIB(2), GM_DISCARD_NOW, 0, r, &err), EPERM,
		"\"lower\" refuses the discard at gpa 0x200000: the device is in it");
	assert_int_equal(r->done, 0);
	assert_bytes(0, 1, MIB(4));
	assert_int_equal(lower.nr, 3);
	assert_event(&lower, 1, GM_DISCARD_ASK, MIB(2), MIB(1));
	assert_event(&lower, 2, GM_DISCARD_DROPPED, MIB(1), MIB(1));
	/* The upper one had agreed to both. */
	assert_int_equal(upper.nr, 4);
	assert_event(&upper, 2, GM_DISCARD_DROPPED, MIB(2), MIB(1));
	assert_event(&upper, 3, GM_DISCARD_DROPPED, MIB(1), MIB(1));
	/* Of a list the rest is done. */
	lower.nr = upper.nr = 0;
	lower.why = NULL;
	assert_ok(gm_discard_ranges(space, ranges, 2, NULL, r, &err));
	assert_int_equal(r->done, PAGE);
	assert_int_equal(r->refused, PAGE);
	assert_int_equal(r->code, -EPERM);
	assert_int_equal(r->gpa, MIB(2));
	assert_bytes(MIB(2), 1, PAGE);
	assert_ok(gm_listener_destroy(lower.listener, &err));
	assert_ok(gm_listener_destroy(upper.listener, &err));
	stop();
}

static void listeners_hear_of_their_kinds_and_of_what_is_coordinated(void **state)
{
	struct ear ear = {0};
	struct gm_discard_result *r = result();
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(
		space, DESC(.granule = MIB(1), .backing = BLOCK(.len = MIB(2))), &id, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(4), .kind = GM_REGION_PMEM, .backing = BLOCK(.len = MIB(2))), NULL,
		&err));
	listen(&ear, 0, GM_KIND_BIT(GM_REGION_RAM));
	assert_ok(gm_discard(space, MIB(4), PAGE, 0, GM_DISCARD_ANY_KIND, r, &err));
	assert_int_equal(ear.nr, 0);
	assert_ok(gm_discard(space, MIB(1), PAGE, 0, 0, r, &err));
	assert_int_equal(ear.events[0].flags, 0);
	assert_ok(gm_space_set_part(space, id, MIB(1), MIB(1), GM_PART_UNPLUGGED, &err));
	assert_ok(gm_discard(space, MIB(1), PAGE, 0, 0, r, &err));
	assert_int_equal(ear.nr, 4);
	assert_int_equal(ear.events[2].flags, GM_DISCARD_COORDINATED);
	assert_ok(gm_listener_destroy(ear.listener, &err));
	stop();
}

static void a_transaction_that_is_open_holds_up_only_those_who_ask(void **state)
{
	struct ear ear = {0};
	struct gm_txn *txn;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .timeout_ns = 20000000));
	add(0, MIB(2));
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_discard(space, 0, PAGE, 0, 0, NULL, &err));
	gm_txn_abort(txn);
	listen(&ear, 0, 0);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_fails(gm_discard(space, 0, PAGE, 0, 0, NULL, &err), EBUSY, "another change");
	gm_txn_abort(txn);
	assert_ok(gm_discard(space, 0, PAGE, 0, 0, NULL, &err));
	assert_ok(gm_listener_destroy(ear.listener, &err));
	stop();
}

/* A listener that inhibits from within: nothing waits for ever. */
static int inhibit_inside(void *ctx, const struct gm_discard_event *event, struct gm_error *e)
{
	int *rc = ctx;

	(void)e;
	if (event->phase == GM_DISCARD_ASK)
		*rc = gm_discard_inhibit(space, 0, 0, GM_INHIBIT_ALL, NULL);
	return 0;
}

static void an_inhibition_waits_for_what_runs(void **state)
{
	int rc = 1;
	struct gm_listener_ops ops = {.size = sizeof(ops), .discard = inhibit_inside, .ctx = &rc};
	struct gm_listener *listener;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .timeout_ns = 20000000));
	add(0, MIB(2));
	assert_ok(gm_listener_create(space, &ops, &listener, &err));
	assert_ok(gm_discard(space, 0, PAGE, 0, 0, NULL, &err));
	assert_int_equal(rc, -ETIMEDOUT);
	assert_int_equal(gm_discard_allow(space, 0, 0, GM_INHIBIT_ALL), -ENOENT);
	assert_ok(gm_listener_destroy(listener, &err));
	stop();
}

/* ---- memory of others ---- */

static uint8_t *far_bytes;
static uint64_t far_off;
static uint64_t far_len;
static int far_rc;

static int far_read(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	memcpy(buf, far_bytes + off, len);
	*ret_done = len;
	return 0;
}

static int far_write(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	memcpy(far_bytes + off, buf, len);
	*ret_done = len;
	return 0;
}

static int far_discard(void *ctx, uint64_t off, uint64_t len)
{
	(void)ctx;
	far_off = off;
	far_len = len;
	if (!far_rc)
		memset(far_bytes + off, 0, len);
	return far_rc;
}

static void a_backend_discards_by_itself(void **state)
{
	struct gm_discard_result *r = result();

	(void)state;
	far_bytes = malloc(MIB(1));
	for (int has = 0; has < 2; has++) {
		start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
		assert_ok(gm_space_add(space,
			DESC(.gpa = MIB(3),
				.backing = BLOCK(.len = MIB(1), .backing = GM_BACKING_OPS,
					.ops = GM_OPTS(gm_backend_ops, .read = far_read,
						.write = far_write,
						.discard = has ? far_discard : NULL))),
			NULL, &err));
		fill_bytes(MIB(3), 1, MIB(1));
		if (!has) {
			assert_fails(gm_discard(space, MIB(3), PAGE, 0, 0, r, &err), ENOTSUP,
				"no discard");
			assert_ok(gm_discard(space, MIB(3) + 5, PAGE, GM_DISCARD_ZERO, 0, r, &err));
			assert_int_equal(r->zeroed, PAGE);
			assert_int_equal(r->done, 0);
		} else {
			assert_ok(gm_discard(
				space, MIB(3) + 5, 3 * PAGE, GM_DISCARD_ZERO, 0, r, &err));
			assert_int_equal(far_off, PAGE);
			assert_int_equal(far_len, 2 * PAGE);
			assert_int_equal(r->done, 2 * PAGE);
			assert_int_equal(r->zeroed, PAGE);
			assert_int_equal(r->ways, BY(BACKEND) | BY(FILL));
			assert_bytes(MIB(3) + 5, 0, 3 * PAGE);
			assert_bytes(MIB(3) + 5 + 3 * PAGE, 1, PAGE);
			far_rc = -ENOSPC;
			assert_fails(gm_discard(space, MIB(3), PAGE, 0, 0, r, &err), ENOSPC, "");
			far_rc = 5;
			assert_fails(gm_discard(space, MIB(3), PAGE, 0, 0, r, &err), EPROTO, "");
			far_rc = 0;
		}
		assert_bytes(MIB(3), 1, 5);
		assert_fails(gm_discard(space, MIB(3), PAGE, GM_DISCARD_COLD, 0, r, &err), ENOTSUP,
			"not mapped");
		stop();
	}
	free(far_bytes);
}

static void spaces_above_do_not_discard(void **state)
{
	struct gm_space *above;
	struct gm_iommu *iommu;
	struct gm_grant *grant;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(
		space, DESC(.backing = BLOCK(.len = MIB(2), .flags = GM_BLOCK_SHARE)), NULL, &err));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .over = space, .gpa_limit = GM_SPACE_NO_WINDOW), &above,
		&err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(above, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_iommu_map(iommu, 0, MIB(1), 0, GM_PERM_RW, &err));
	assert_fails(
		gm_discard(above, 0, PAGE, 0, 0, NULL, &err), ENOTSUP, "no memory of this space");
	gm_space_destroy(above);
	gm_iommu_put(iommu);
	assert_ok(gm_grant_create(space,
		GM_OPTS(gm_grant_opts,
			.parts = &(
				struct gm_grant_part){.gpa = 0, .len = MIB(1), .perms = GM_PERM_RW},
			.nr_parts = 1),
		&grant, &err));
	assert_fails(gm_discard(gm_grant_space(grant), 0, PAGE, 0, 0, NULL, &err), EPERM, "grant");
	assert_ok(gm_grant_destroy(grant, &err));
	stop();
}

/* ---- guest_memfd ---- */

#ifndef KVM_CREATE_GUEST_MEMFD
struct kvm_create_guest_memfd {
	__u64 size;
	__u64 flags;
	__u64 reserved[6];
};
#define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
#endif

struct cache_range {
	uint64_t off;
	uint64_t len;
};

struct cache_stat {
	uint64_t cached;
	uint64_t rest[4];
};

/* Bytes of a file in memory; a guest_memfd has no blocks that fstat() could tell. */
static uint64_t cached(int fd, uint64_t len)
{
	struct cache_range range = {0, len};
	struct cache_stat stat;

	assert_int_equal(syscall(451, fd, &range, &stat, 0), 0);
	return stat.cached * PAGE;
}

static void guest_memfd_gets_holes(void **state)
{
	struct kvm_create_guest_memfd make = {.size = MIB(4), .flags = 3}; /* mmap, shared first */
	struct gm_discard_result *r = result();
	struct gm_block *secret;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	uint64_t id;
	int fd = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_GUEST_MEMFD, &make);

	(void)state;
	if (fd < 0) {
		printf("skipped: KVM gives no guest_memfd that can be mapped\n");
		skip();
	}
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_block_create(
		BLOCK(.len = MIB(4), .backing = GM_BACKING_FD, .fd = fd), &secret, &err));
	assert_ok(gm_space_add(space, DESC(.block = secret), NULL, &err));
	fill_bytes(0, 1, MIB(4));
	assert_int_equal(cached(fd, MIB(4)), MIB(4));
	assert_ok(gm_discard(space, MIB(1) + 5, MIB(1), GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(r->done, MIB(1) - PAGE);
	assert_int_equal(cached(fd, MIB(4)), MIB(3) + PAGE);
	assert_bytes(0, 1, MIB(1) + PAGE);
	assert_bytes(MIB(1) + PAGE, 0, MIB(1) - PAGE);
	/* As the private half of a region. */
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(16), .granule = MIB(1), .private_block = secret,
			.backing = BLOCK(.len = MIB(4))),
		&id, &err));
	fill_bytes(0, 1, MIB(4));
	fill_bytes(MIB(16), 2, MIB(4));
	assert_ok(gm_space_set_part(space, id, MIB(2), MIB(1), GM_PART_PRIVATE, &err));
	assert_ok(gm_discard_inhibit(space, 0, 0, GM_INHIBIT_UNCOORDINATED, &err));
	/* The shared bytes of what is private now, and the private ones of what is shared. */
	assert_ok(gm_discard(space, MIB(18), MIB(1), 0, GM_DISCARD_SHARED, r, &err));
	assert_int_equal(r->ways, BY(DONTNEED));
	assert_ok(gm_discard(space, MIB(16), MIB(1), 0, GM_DISCARD_PRIVATE, r, &err));
	assert_int_equal(r->ways, BY(PUNCH));
	assert_int_equal(cached(fd, MIB(4)), MIB(3));
	/* What is in use is not coordinated. */
	assert_fails(gm_discard(space, MIB(18), MIB(1), 0, 0, r, &err), EBUSY, "inhibited");
	assert_int_equal(gm_discard_allow(space, 0, 0, GM_INHIBIT_UNCOORDINATED), 0);
	assert_ok(gm_discard(space, MIB(18), MIB(1), 0, 0, r, &err));
	assert_int_equal(r->ways, BY(PUNCH));
	assert_int_equal(cached(fd, MIB(4)), MIB(2));
	/* Unplugged: both. */
	assert_ok(gm_space_set_part(space, id, MIB(3), MIB(1), GM_PART_UNPLUGGED, &err));
	assert_ok(gm_discard(space, MIB(19), MIB(1), 0, 0, r, &err));
	assert_int_equal(r->done, MIB(2));
	assert_int_equal(cached(fd, MIB(4)), MIB(1));
	/* Nobody else can write zeros to what is private. */
	assert_fails(gm_discard(space, MIB(18) + 1, PAGE, GM_DISCARD_ZERO, 0, r, &err), ENOTSUP,
		"the guest's alone");
	assert_bytes(MIB(16), 2, MIB(2));
	assert_ok(gm_space_set_part(space, id, 0, MIB(4), GM_PART_SHARED, &err));
	assert_bytes(MIB(18), 0, MIB(2));
	stop();
	gm_block_put(secret);
	close(fd);
	close(vm);
	close(kvm);
}

/* ---- threads ---- */

static int over;
static unsigned long nr_discards;

static bool is_over(void)
{
	return __atomic_load_n(&over, __ATOMIC_RELAXED);
}

/* A page of each thread's own is never lost, whatever is discarded beside it. */
static void *write_and_look(void *arg)
{
	uint64_t gpa = (uintptr_t)arg * PAGE;
	struct gm_reader *own;

	assert_int_equal(gm_reader_create(space, "writer", &own, NULL), 0);
	for (uint64_t n = 1; !is_over(); n++) {
		const struct gm_view *view = gm_reader_enter(own);
		uint64_t got;

		assert_int_equal(gm_write_u64(view, gpa, n), 0);
		assert_int_equal(gm_read_u64(view, gpa, &got), 0);
		assert_true(got == n);
		/* Beside it: what was written last, or nothing. */
		assert_int_equal(gm_write_u64(view, gpa + PAGE, n), 0);
		assert_int_equal(gm_read_u64(view, gpa + PAGE, &got), 0);
		assert_true(got == n || got == 0);
		gm_reader_leave(own);
	}
	gm_reader_destroy(own);
	return NULL;
}

static void *discard_beside(void *arg)
{
	uint64_t first = (uintptr_t)arg;

	while (!is_over()) {
		struct gm_discard_result r = {.size = sizeof(r)};
		uint32_t pfns[40];
		int rc;

		for (uint32_t i = 0; i < 40; i++)
			pfns[i] = (uint32_t)first + 2 * i + 1;
		assert_int_equal(gm_discard_pfns(space, pfns, 40, NULL, &r, NULL), 0);
		assert_int_equal(r.done + r.refused, 40 * PAGE);
		__atomic_fetch_add(&nr_discards, r.done != 0, __ATOMIC_RELAXED);
		rc = gm_discard(space, (first + 1) * PAGE, PAGE, GM_DISCARD_NOW, 0, NULL, NULL);
		assert_true(rc == 0 || rc == -EBUSY);
	}
	return NULL;
}

/* Forbids, looks that nothing goes, allows. */
static void *forbid(void *arg)
{
	struct gm_reader *own;

	(void)arg;
	assert_int_equal(gm_reader_create(space, "forbid", &own, NULL), 0);
	while (!is_over()) {
		uint64_t got;
		int rc = gm_discard_inhibit(space, 41 * PAGE, PAGE, GM_INHIBIT_ALL, NULL);

		assert_true(rc == 0 || rc == -ETIMEDOUT);
		if (rc)
			continue;
		assert_int_equal(gm_write_u64(gm_reader_enter(own), 41 * PAGE, 77), 0);
		gm_reader_leave(own);
		for (int i = 0; i < 20; i++) {
			assert_int_equal(gm_read_u64(gm_reader_enter(own), 41 * PAGE, &got), 0);
			gm_reader_leave(own);
			assert_true(got == 77);
		}
		assert_int_equal(gm_discard_allow(space, 41 * PAGE, PAGE, GM_INHIBIT_ALL), 0);
	}
	gm_reader_destroy(own);
	return NULL;
}

static void *change_the_map(void *arg)
{
	(void)arg;
	while (!is_over()) {
		uint64_t id;

		if (gm_space_add(space, DESC(.gpa = MIB(32), .backing = BLOCK(.len = 64 * PAGE)),
			    &id, NULL))
			continue;
		gm_discard(space, MIB(32), 64 * PAGE, GM_DISCARD_NOW, 0, NULL, NULL);
		while (gm_space_remove(space, id, NULL))
			;
		gm_discard(space, MIB(32), 64 * PAGE, GM_DISCARD_NOW, 0, NULL, NULL);
		gm_space_reclaim(space);
	}
	return NULL;
}

static int agree(void *ctx, const struct gm_discard_event *event, struct gm_error *e)
{
	(void)ctx;
	(void)event;
	(void)e;
	return 0;
}

/* Comes and goes, so that discards go from one way to the other. */
static void *listen_now_and_then(void *arg)
{
	struct gm_listener_ops ops = {.size = sizeof(ops), .discard = agree};

	(void)arg;
	while (!is_over()) {
		struct gm_listener *listener;

		if (gm_listener_create(space, &ops, &listener, NULL))
			continue;
		gm_discard(space, MIB(1), PAGE, GM_DISCARD_NOW, 0, NULL, NULL);
		while (gm_listener_destroy(listener, NULL))
			;
	}
	return NULL;
}

static void discards_run_beside_everything(void **state)
{
	static const struct {
		void *(*fn)(void *);
		uintptr_t arg;
	} jobs[] = {{write_and_look, 0}, {write_and_look, 4}, {discard_beside, 0},
		{discard_beside, 2}, {forbid, 0}, {change_the_map, 0}, {listen_now_and_then, 0}};
	pthread_t threads[sizeof(jobs) / sizeof(*jobs)];

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
		assert_ok(gm_space_add(space,
			DESC(.backing = BLOCK(.len = MIB(2), .flags = shared ? GM_BLOCK_SHARE : 0)),
			NULL, &err));
		over = 0;
		for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++)
			assert_int_equal(
				pthread_create(&threads[i], NULL, jobs[i].fn, (void *)jobs[i].arg),
				0);
		usleep((useconds_t)support_scale(700) * 1000);
		__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
		for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++)
			pthread_join(threads[i], NULL);
		assert_true(__atomic_exchange_n(&nr_discards, 0, __ATOMIC_RELAXED) > 20);
		stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inhibitions_are_counted),
		cmocka_unit_test(listeners_are_asked_and_told),
		cmocka_unit_test(a_refusal_leaves_all_as_it_was),
		cmocka_unit_test(listeners_hear_of_their_kinds_and_of_what_is_coordinated),
		cmocka_unit_test(a_transaction_that_is_open_holds_up_only_those_who_ask),
		cmocka_unit_test(an_inhibition_waits_for_what_runs),
		cmocka_unit_test(a_backend_discards_by_itself),
		cmocka_unit_test(spaces_above_do_not_discard),
		cmocka_unit_test(guest_memfd_gets_holes),
		cmocka_unit_test(discards_run_beside_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
