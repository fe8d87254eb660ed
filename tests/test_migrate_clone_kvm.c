/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_clone_kvm.c - a guest in KVM, which reads and writes a store of keys all the time, is cloned: two clones
 * go on in virtual machines of their own, each in another mixture of reads and writes, one only in memory. Each finds
 * the store as it was at the instant: a version that is newer would not fit to the number of writes that the guest
 * has counted, which is of the instant too.
 */
#include <errno.h>
#include <guestmem/migrate_clone.h>
#include <guestmem/pager_run.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../payload/payload.h"
#include "../tool/machine.h"
#include "../tool/run_blob.h"
#include "random.h"
#include "support.h"

#define PAGE UINT64_C(4096)
#define VCPUS 2u
#define CLONES 3u
#define WITHOUT 2u /* this one has no virtual machine */
#define RANGES 4u
#define VALUES 5u
#define SECONDS 60
#define WRITES_AT_SOURCE 50u /* per cent of operations */

static struct gm_error err;

/* As payload/store.c has it. */
struct slot {
	uint64_t key;
	uint64_t version;
	uint64_t value[VALUES];
	uint64_t sum;
};

struct body {
	struct run_memory memory;
	struct machine machine;
};

enum wish { NOTHING, TO_LOAD, TO_RUN };

struct clone {
	uint32_t number;
	struct body body;
	struct gm_migrate_in *in;
	pthread_t step;
	pthread_t guest;
	_Atomic int wish;
	_Atomic bool quit;
	_Atomic bool runs;
	_Atomic bool ended;
	_Atomic uint64_t wrong; /* 1 + address */
	_Atomic int step_rc;
	const uint8_t *data; /* the device state: borrowed until it is loaded */
	size_t len;
	uint8_t *own; /* of the one without a virtual machine: what its memory has to be */
};

static struct body source;
static struct gm_pager *pager;
static struct gm_migrate_clone *clones;
static struct clone there[CLONES];
static uint64_t ranges[RANGES][2]; /* addresses and bytes of what is compared */
static uint64_t bytes;
static uint8_t *instant;
static pthread_t pager_thread;
static pthread_t step_thread;
static _Atomic bool quit_step;
static _Atomic bool all_ended;
static _Atomic int failed;

/* ---- the guest ---- */

static uint64_t memory_len(void)
{
	return getenv("GM_SOAK") ? MIB(64) : MIB(4);
}

static void make_body(struct body *b, bool share, bool restored)
{
	struct run_memory_opts memory = {.size = memory_len(), .share = share};
	struct machine_opts opts = {
		.nr_vcpus = VCPUS, .guest_log2 = 12, .program = {.fd = -1}, .restored = restored};

	memory.pages.choices[0].kind = GM_PAGE_BASE;
	opts.program.bytes = run_blob(&opts.program.len);
	assert_true(run_memory_init(&b->memory, &memory));
	assert_true(machine_init(&b->machine, &b->memory, &opts));
}

static void put_params(void)
{
	uint64_t each = memory_len() / VCPUS;

	for (uint32_t i = 0; i < VCPUS; i++) {
		struct run_params p = {.magic = RUN_MAGIC,
			.version = RUN_VERSION,
			.size = sizeof(p),
			.vcpu = i,
			.nr_vcpus = VCPUS,
			.payload = RUN_STORE,
			.mem = RUN_MEMORY_GPA + i * each,
			.mem_len = each,
			.seed = test_seed(3),
			.arg = {[RUN_ARG_WRITE] = WRITES_AT_SOURCE,
				[RUN_ARG_COUNT] = UINT64_MAX,
				[RUN_ARG_SKEW] = 99}};

		assert_true(run_memory_write(
			&source.memory, machine_params_gpa(i), &p, sizeof(p), "parameters"));
	}
}

static struct run_params params_of(struct body *b, uint32_t vcpu)
{
	struct run_params p;

	assert_true(
		run_memory_read(&b->memory, machine_params_gpa(vcpu), &p, sizeof(p), "parameters"));
	return p;
}

static void set_word(struct body *b, uint32_t vcpu, size_t at, uint64_t word)
{
	assert_true(run_memory_write(
		&b->memory, machine_params_gpa(vcpu) + at, &word, sizeof(word), "a word"));
}

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

#define UNTIL(what)                                                                                \
	do {                                                                                       \
		time_t until_ = time(NULL) + SECONDS;                                              \
		while (!(what)) {                                                                  \
			if (time(NULL) > until_ || broken())                                       \
				fail_msg("%s does not become true (%d)", #what, failed);           \
			pause_briefly();                                                           \
		}                                                                                  \
	} while (0)

static bool broken(void)
{
	bool bad = failed != 0;

	for (uint32_t i = 0; i < CLONES; i++)
		bad |= there[i].wrong || there[i].step_rc;
	return bad;
}

/* ---- memory at the instant ---- */

static void choose_ranges(void)
{
	struct gm_region_info tables = {.size = sizeof(tables)};

	assert_int_equal(gm_space_next(source.memory.space, source.memory.free_gpa, &tables), 0);
	memcpy(ranges,
		(uint64_t[RANGES][2]){{0, MIB(1) + payload_blob_len / PAGE * PAGE},
			{MACHINE_VCPU_AREA, VCPUS * MACHINE_VCPU_STRIDE},
			{source.memory.gpa, source.memory.len}, {tables.gpa, tables.len}},
		sizeof(ranges));
	bytes = 0;
	for (uint32_t i = 0; i < RANGES; i++)
		bytes += ranges[i][1];
	instant = malloc(bytes);
	assert_non_null(instant);
}

/* Where a byte of a copy lies. */
static uint64_t gpa_of(uint64_t at)
{
	uint32_t i = 0;

	for (; at >= ranges[i][1]; i++)
		at -= ranges[i][1];
	return ranges[i][0] + at;
}

static uint64_t at_of(uint64_t gpa)
{
	uint64_t at = 0;
	uint32_t i = 0;

	for (; gpa < ranges[i][0] || gpa - ranges[i][0] >= ranges[i][1]; i++)
		at += ranges[i][1];
	return at + (gpa - ranges[i][0]);
}

static bool is_page(struct body *b, uint64_t at, const uint8_t *right)
{
	uint8_t page[PAGE];

	return run_memory_read(&b->memory, gpa_of(at), page, PAGE, "a page") &&
	       memcmp(page, right + at, PAGE) == 0;
}

/* ---- the source ---- */

static int on_connect(void *ctx, uint32_t clone, uint32_t connection, uint32_t index, int *ret_fd)
{
	int fds[2];
	int rc;

	(void)ctx;
	(void)connection;
	(void)index;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -EMFILE;
	rc = gm_migrate_in_connection(there[clone].in, fds[1]);
	if (!rc)
		*ret_fd = fds[0];
	else
		close(fds[0]);
	return rc;
}

static void on_pause(void *ctx)
{
	(void)ctx;
	machine_stop(&source.machine);
	gm_migrate_clone_paused(clones, 0);
}

/* vCPU after vCPU: how long it is, then the bytes. */
static void on_save(void *ctx)
{
	uint8_t *state = NULL;
	size_t len = 0;

	(void)ctx;
	for (uint32_t i = 0; i < VCPUS; i++) {
		struct machine_saved saved;

		if (!machine_save(&source.machine, i, &saved) || saved.end != MACHINE_STOPPED) {
			failed = -EIO;
			return;
		}
		state = realloc(state, len + sizeof(saved.len) + saved.len);
		memcpy(state + len, &saved.len, sizeof(saved.len));
		memcpy(state + len + sizeof(saved.len), saved.bytes, saved.len);
		len += sizeof(saved.len) + saved.len;
		free(saved.bytes);
	}
	for (uint64_t at = 0; at < bytes; at += PAGE)
		if (!run_memory_read(&source.memory, gpa_of(at), instant + at, PAGE, "a page"))
			failed = -EFAULT;
	gm_migrate_clone_state(clones, state, len);
	free(state);
}

static void on_run(void *ctx)
{
	(void)ctx;
	if (!machine_go_on(&source.machine))
		failed = -EIO;
}

static void on_told(void *ctx, uint32_t clone, const struct gm_migrate_event *event)
{
	(void)ctx;
	if (clone != GM_MIGRATE_CLONE_ALL)
		return;
	if (event->tell == GM_MIGRATE_TOLD_FAILED)
		failed = event->rc;
	else if (event->tell == GM_MIGRATE_TOLD_ENDED)
		all_ended = true;
}

static void *step_source(void *ctx)
{
	(void)ctx;
	while (!quit_step && !failed)
		failed = gm_migrate_clone_step(clones, 10);
	return NULL;
}

static void *step_pager(void *ctx)
{
	return (void *)(intptr_t)gm_pager_run(ctx);
}

/* ---- a clone ---- */

static void there_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct clone *c = ctx;

	(void)regions;
	(void)nr;
	gm_migrate_in_prepared(c->in, c->body.memory.space, 0, NULL);
}

static void there_load(void *ctx, const void *data, size_t len)
{
	struct clone *c = ctx;

	c->data = data;
	c->len = len;
	c->wish = TO_LOAD;
}

static void there_run(void *ctx)
{
	((struct clone *)ctx)->wish = TO_RUN;
}

static void there_told(void *ctx, const struct gm_migrate_event *event)
{
	struct clone *c = ctx;

	if (event->tell == GM_MIGRATE_TOLD_ENDED)
		c->ended = true;
	else if (event->tell == GM_MIGRATE_TOLD_FAILED || event->tell == GM_MIGRATE_TOLD_PAGES)
		c->wrong = UINT64_MAX;
}

static bool load_vcpus(struct clone *c)
{
	const uint8_t *from = c->data;

	for (uint32_t i = 0; i < VCPUS && c->number != WITHOUT; i++) {
		struct machine_saved saved = {.end = MACHINE_STOPPED};

		memcpy(&saved.len, from, sizeof(saved.len));
		saved.bytes = (uint8_t *)(uintptr_t)(from + sizeof(saved.len));
		if (!machine_restore(&c->body.machine, i, &saved))
			return false;
		from += sizeof(saved.len) + saved.len;
	}
	return c->number == WITHOUT || from == c->data + c->len;
}

/* Before anything runs: with a virtual machine an eighth of all pages, else each; from wherever it falls. */
static void look_around(struct clone *c)
{
	struct rng rng = {test_seed(200 + c->number)};
	uint64_t pages = bytes / PAGE;
	uint64_t nr = c->number == WITHOUT ? pages : pages / 8;
	uint64_t page = rng_below(&rng, pages);

	for (uint64_t i = 0; i < nr && !c->wrong; i++) {
		if (!is_page(&c->body, page * PAGE, instant))
			c->wrong = 1 + gpa_of(page * PAGE);
		page = (c->number == WITHOUT ? page + 1 : rng_below(&rng, pages)) % pages;
	}
}

/* The one without a virtual machine runs on by writing to every third page. */
static void write_around(struct clone *c)
{
	memcpy(c->own, instant, bytes);
	for (uint64_t at = 0; at < bytes; at += 3 * PAGE) {
		uint64_t word = ~at;

		memcpy(c->own + at + at / PAGE % 512 * 8, &word, sizeof(word));
		if (!run_memory_write(&c->body.memory, gpa_of(at) + at / PAGE % 512 * 8, &word,
			    sizeof(word), "a word"))
			c->wrong = 1 + gpa_of(at);
	}
}

static void run_there(struct clone *c)
{
	look_around(c);
	if (c->number == WITHOUT) {
		write_around(c);
	} else {
		/* They part here. */
		for (uint32_t i = 0; i < VCPUS; i++)
			set_word(&c->body, i, offsetof(struct run_params, arg) + RUN_ARG_WRITE * 8,
				c->number ? 90 : 10);
		if (!machine_start(&c->body.machine))
			c->wrong = UINT64_MAX;
	}
	c->runs = true;
	gm_migrate_in_started(c->in, c->wrong ? -EIO : 0);
}

/* Memory that has not come yet is waited for here, never by who steps. */
static void *be_there(void *ctx)
{
	struct clone *c = ctx;

	while (!c->quit) {
		int wish = atomic_exchange(&c->wish, NOTHING);

		if (wish == TO_LOAD)
			gm_migrate_in_loaded(c->in, load_vcpus(c) ? 0 : -EINVAL, "no such state");
		else if (wish == TO_RUN)
			run_there(c);
		else
			pause_briefly();
	}
	return NULL;
}

static void *step_there(void *ctx)
{
	struct clone *c = ctx;

	while (!c->quit && !c->step_rc)
		c->step_rc = gm_migrate_in_step(c->in, 10);
	return NULL;
}

/* ---- what the store has to be ---- */

/* Keys are those of the instant, no version is older, each value is that of its version; and the guest's own look. */
static void check_store(struct body *b, uint32_t vcpu)
{
	const struct run_params *then =
		(const struct run_params *)(const void *)(instant +
							  at_of(machine_params_gpa(vcpu)));
	struct run_params p = params_of(b, vcpu);
	uint64_t versions = 0;
	uint64_t grown = 0;

	assert_int_equal(b->machine.vcpus[vcpu].end, MACHINE_ENDED);
	assert_int_equal(b->machine.vcpus[vcpu].status, RUN_WELL);
	assert_int_equal(p.state, RUN_DONE);
	assert_int_equal(p.errors, 0);
	assert_true(p.ops > then->progress);
	for (uint64_t at = 0; at < p.mem_len; at += sizeof(struct slot)) {
		const struct slot *old =
			(const struct slot *)(const void *)(instant + at_of(p.mem + at));
		struct slot now;

		assert_true(run_memory_read(&b->memory, p.mem + at, &now, sizeof(now), "a slot"));
		if (now.key != old->key || (now.key && now.version < old->version))
			fail_msg("slot 0x%jx: a key or a version that cannot be",
				(uintmax_t)(p.mem + at));
		versions += now.key ? now.version : 0;
		grown += now.key && now.version > old->version;
		for (uint32_t i = 0; i < VALUES && now.key; i++)
			if (now.value[i] != payload_mix(now.key ^ now.version) * (2 * i + 1))
				fail_msg("slot 0x%jx: a wrong value", (uintmax_t)(p.mem + at));
	}
	assert_true(grown > 0);
	assert_true(versions == p.figures[1] && versions == p.checksum);
}

static void end_guest(struct body *b)
{
	for (uint32_t i = 0; i < VCPUS; i++)
		set_word(b, i, offsetof(struct run_params, stop), RUN_STOP_END);
	UNTIL(machine_all_stopped(&b->machine));
	machine_stop(&b->machine);
	for (uint32_t i = 0; i < VCPUS; i++)
		check_store(b, i);
}

static void end_clone(struct clone *c)
{
	if (c->number != WITHOUT) {
		uint64_t then = params_of(&c->body, 0).progress;

		UNTIL(params_of(&c->body, 0).progress > then + 1000);
		end_guest(&c->body);
		return;
	}
	for (uint64_t at = 0; at < bytes; at += PAGE) {
		if (!is_page(&c->body, at, c->own))
			fail_msg("page 0x%jx is not what it was", (uintmax_t)gpa_of(at));
	}
}

/* ---- from begin to end ---- */

static void protect_source(void)
{
	const struct gm_pager_area_opts area = {.size = sizeof(area), .way = GM_PAGER_PROTECT};
	struct gm_region_info info = {.size = sizeof(info)};

	assert_ok(gm_pager_create(NULL, &pager, &err));
	for (uint64_t gpa = 0; gm_space_next(source.memory.space, gpa, &info) == 0;
		gpa = info.gpa + info.len) {
		/* Registers of devices are none. */
		if (info.hva)
			assert_ok(gm_pager_add_space(
				pager, source.memory.space, info.gpa, info.len, &area, NULL, &err));
	}
	assert_int_equal(pthread_create(&pager_thread, NULL, step_pager, pager), 0);
}

static void make_clone(struct clone *c, uint32_t number, bool share)
{
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = there_prepare,
		.load = there_load,
		.run = there_run,
		.told = there_told,
		.ctx = c};

	*c = (struct clone){.number = number};
	make_body(&c->body, share, true);
	c->own = number == WITHOUT ? malloc(bytes) : NULL;
	assert_ok(gm_migrate_in_create(NULL, &ops, &c->in, &err));
	assert_int_equal(pthread_create(&c->step, NULL, step_there, c), 0);
	assert_int_equal(pthread_create(&c->guest, NULL, be_there, c), 0);
}

static void begin_all(bool share)
{
	const struct gm_migrate_clone_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.save = on_save,
		.run = on_run,
		.told = on_told};
	const struct gm_migrate_clone_opts opts = {
		.size = sizeof(opts), .room = memory_len() * 2, .out.rate = memory_len() * 4};

	quit_step = all_ended = false;
	make_body(&source, share, false);
	put_params();
	choose_ranges();
	protect_source();
	for (uint32_t i = 0; i < CLONES; i++)
		make_clone(&there[i], i, share);
	assert_true(machine_start(&source.machine));
	for (uint32_t i = 0; i < VCPUS; i++)
		UNTIL(params_of(&source, i).state == RUN_MEASURES &&
			params_of(&source, i).progress > 1000);
	assert_ok(gm_migrate_clone_create(
		source.memory.space, pager, CLONES, &opts, &ops, &clones, &err));
	assert_int_equal(pthread_create(&step_thread, NULL, step_source, NULL), 0);
	assert_ok(gm_migrate_clone_start(clones, &err));
}

static void end_all(void)
{
	void *rc;

	quit_step = true;
	pthread_join(step_thread, NULL);
	assert_int_equal(failed, 0);
	assert_int_equal(gm_migrate_clone_destroy(clones), 0);
	/* What a machine has put in the place of signals' handlers is put back in turn. */
	for (uint32_t i = CLONES; i-- > 0;) {
		struct clone *c = &there[i];

		c->quit = true;
		pthread_join(c->guest, NULL);
		pthread_join(c->step, NULL);
		assert_int_equal(gm_migrate_in_destroy(c->in), 0);
		machine_fini(&c->body.machine);
		run_memory_fini(&c->body.memory);
		free(c->own);
	}
	gm_pager_quit(pager);
	pthread_join(pager_thread, &rc);
	assert_int_equal((intptr_t)rc, 0);
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, 60000, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	machine_fini(&source.machine);
	run_memory_fini(&source.memory);
	free(instant);
}

static void clone_guest(bool share)
{
	struct gm_migrate_clone_stats f = {.size = sizeof(f)};
	uint64_t then;

	begin_all(share);
	UNTIL(all_ended);
	for (uint32_t i = 0; i < CLONES; i++)
		UNTIL(there[i].ended && there[i].runs);
	assert_int_equal(gm_migrate_clone_stats(clones, &f), 0);
	assert_int_equal(f.whole, CLONES);
	assert_int_equal(f.lost, 0);
	assert_int_equal(f.pre_now, 0);
	/* The guest wrote while they were filled. */
	assert_true(f.pre_images > 0);
	then = params_of(&source, 0).progress;
	UNTIL(params_of(&source, 0).progress > then + 1000);
	for (uint32_t i = 0; i < CLONES; i++)
		end_clone(&there[i]);
	end_guest(&source);
	if (getenv("GM_SOAK")) {
		printf("figure: pages of KVM guests copied for clones %llu\n",
			(unsigned long long)f.pre_images);
		printf("figure: pages of clones of KVM guests %llu\n",
			(unsigned long long)(bytes / PAGE * CLONES));
	}
	end_all();
}

static void each_has_the_store_of_the_instant(void **ctx)
{
	char why[MACHINE_WHY_CAP];

	(void)ctx;
	if (!machine_available(why, sizeof(why))) {
		printf("skipped: %s\n", why);
		skip();
	}
	for (unsigned long i = 0; i < support_scale(1); i++) {
		clone_guest(false);
		clone_guest(true);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_has_the_store_of_the_instant),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
