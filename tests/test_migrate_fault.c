/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_fault.c - both ends of a migration in one thread, where the kernel or the heap refuses: each call
 * fails in turn, once and from then on. The guest stays where it is, or the move ends well; nothing is leaked.
 *
 * The clock is virtual: deadlines pass when there is nothing to do.
 */
#include "support.h"

#include <errno.h>
#include <guestmem/guard.h>
#include <guestmem/log.h>
#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>
#include <guestmem/pager_run.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"

#define PAGE UINT64_C(4096)
#define PAGES 96u
#define TURNS 4000u
#define RESUMES 3u
#define STATE_TEXT "a state"
#define DEADLINES                                                                                  \
	{                                                                                          \
		.open = 1000, .answer = 500, .work = 1000, .own = 1000, .ping = 100, .line = 300,  \
		.resume = 1000, .linger = 1000                                                     \
	}

static struct gm_error err;
static struct gm_space *spaces[2];
static struct gm_reader *readers[2];
static uint64_t ids[2];

struct course {
	uint32_t way;
	uint32_t bulk;
	uint32_t urgent;
	uint32_t codec_plus;
	bool ask; /* for all pages, as if somebody touched them */
	/* Of a run: */
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	uint32_t states[2];
	uint32_t runs[2];
	uint32_t lost;
	uint32_t paused;
	unsigned long well;
	unsigned long stayed;
	unsigned long resumed;
	unsigned long refused; /* not begun at all */
	unsigned long named;   /* pages that nobody has */
};

static uint64_t word_of(uint64_t page)
{
	return page % 3 ? 0x1000000 + page : 0;
}

static void *host_of(int side)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_region(spaces[side], ids[side], &info), 0);
	return info.hva;
}

/* ---- the embedders ---- */

static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct course *c = ctx;
	int fds[2];
	int rc;

	(void)connection;
	(void)index;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	rc = gm_migrate_in_connection(c->in, fds[1]);
	if (rc)
		close(fds[0]);
	else
		*ret_fd = fds[0];
	return rc;
}

static void on_pause(void *ctx)
{
	struct course *c = ctx;

	c->paused++;
	assert_int_equal(gm_migrate_out_paused(c->out, 0), 0);
}

static void on_run_here(void *ctx)
{
	((struct course *)ctx)->runs[0]++;
}

static void on_save(void *ctx)
{
	struct course *c = ctx;
	int rc = gm_migrate_out_state(c->out, STATE_TEXT, sizeof(STATE_TEXT));

	if (rc)
		(void)gm_migrate_out_cancel(c->out, rc);
}

static void on_told_out(void *ctx, const struct gm_migrate_event *event)
{
	struct course *c = ctx;

	c->states[0] = event->state;
	c->lost += event->tell == GM_MIGRATE_TOLD_LOST;
}

static void on_told_in(void *ctx, const struct gm_migrate_event *event)
{
	((struct course *)ctx)->states[1] = event->state;
}

static void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	assert_int_equal(nr, 1);
	assert_int_equal(regions[0].len, PAGES * PAGE);
	assert_int_equal(gm_migrate_in_prepared(((struct course *)ctx)->in, spaces[1], 0, NULL), 0);
}

static void on_load(void *ctx, const void *data, size_t len)
{
	struct course *c = ctx;

	assert_int_equal(len, sizeof(STATE_TEXT));
	assert_memory_equal(data, STATE_TEXT, len);
	if (c->ask && gm_migrate_in_pager(c->in))
		assert_int_equal(
			gm_pager_fill(gm_migrate_in_pager(c->in), GM_PAGER_FILL_ALL, 0), 0);
	assert_int_equal(gm_migrate_in_loaded(c->in, 0, NULL), 0);
}

static void on_run_there(void *ctx)
{
	struct course *c = ctx;

	c->runs[1]++;
	assert_int_equal(gm_migrate_in_started(c->in, 0), 0);
}

/* ---- a run ---- */

static int make(struct course *c)
{
	const struct gm_migrate_out_ops out_ops = {.size = sizeof(out_ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here,
		.save = on_save,
		.told = on_told_out,
		.ctx = c};
	const struct gm_migrate_in_ops in_ops = {.size = sizeof(in_ops),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run_there,
		.told = on_told_in,
		.ctx = c};
	const struct gm_migrate_out_opts out = {.size = sizeof(out),
		.way = c->way,
		.bulk_plus = 1 + c->bulk,
		.urgent_plus = 1 + c->urgent,
		.codec_plus = c->codec_plus,
		.pages = 8,
		.deadlines = DEADLINES};
	const struct gm_migrate_in_opts in = {.size = sizeof(in), .deadlines = DEADLINES};
	int rc = gm_migrate_out_create(spaces[0], &out, &out_ops, &c->out, &err);

	if (!rc)
		rc = gm_migrate_in_create(&in, &in_ops, &c->in, &err);
	return rc ? rc : gm_migrate_out_start(c->out, &err);
}

static bool is_over(const struct course *c)
{
	return c->states[0] >= GM_MIGRATE_IS_ENDED &&
	       (c->states[1] >= GM_MIGRATE_IS_ENDED || c->states[1] == GM_MIGRATE_IS_IDLE);
}

/* Steps that fail are taken again. The source's embedder resumes what is lost. */
static void turns(struct course *c)
{
	uint32_t resumes = 0;
	uint32_t lost = 0;

	for (uint32_t i = 0; i < TURNS && !is_over(c); i++) {
		(void)gm_migrate_out_step(c->out, 0);
		(void)gm_migrate_in_step(c->in, 0);
		if (c->lost > lost && c->states[0] == GM_MIGRATE_IS_LOST && resumes < RESUMES) {
			lost = c->lost;
			resumes++;
			(void)gm_migrate_out_resume(c->out);
		}
		if (i > 100)
			fault_clock_jump(2000000);
	}
	c->resumed += resumes > 0 && c->states[0] == GM_MIGRATE_IS_ENDED;
}

/* Each page at the destination is right, or is named: then it cannot be read. */
static void check_memory(struct course *c)
{
	uint64_t first;
	uint64_t last;

	for (uint64_t page = 0; page < PAGES; page++) {
		const struct gm_view *view = gm_reader_enter(readers[1]);
		uint64_t value = 0;
		int rc = gm_read_u64(view, page * PAGE + 8 * page, &value);
		bool named = !gm_migrate_in_lost(c->in, page * PAGE, &first, &last) &&
			     first == page * PAGE;

		gm_reader_leave(readers[1]);
		if ((rc != 0) != named)
			fail_msg("page %u: %d, %s, behind a fault of %s (call %lu): %u, %u",
				(unsigned int)page, rc, named ? "named" : "not named",
				fault_name(fault_hit_fn()), fault_calls(FAULT_ANY), c->states[0],
				c->states[1]);
		if (!rc)
			assert_int_equal(value, word_of(page));
		c->named += named;
		if (named && fault_hits() <= 1)
			fail_msg("page %u is lost by one fault of %s (call %lu)",
				(unsigned int)page, fault_name(fault_hit_fn()),
				fault_calls(FAULT_ANY));
	}
}

static int judge(struct course *c)
{
	bool here =
		c->states[0] >= GM_MIGRATE_IS_CANCELLED && c->states[0] <= GM_MIGRATE_IS_RECLAIMED;

	if (here) {
		assert_int_equal(c->runs[1], 0);
		assert_int_equal(c->runs[0], c->paused);
		c->stayed++;
		return -ECANCELED;
	}
	assert_int_equal(c->runs[0], 0);
	assert_int_equal(c->runs[1], 1);
	check_memory(c);
	if (c->states[0] != GM_MIGRATE_IS_ENDED)
		return -EIO;
	assert_int_equal(c->states[1], GM_MIGRATE_IS_ENDED);
	c->well++;
	return 0;
}

/* What a space could not free when it should, since nobody could be waited for, it frees with the next change. */
static void tidy(struct gm_space *space)
{
	struct gm_log_opts opts = {.size = sizeof(opts), .len = PAGES * PAGE, .page_size = PAGE};
	struct gm_log *log;

	assert_ok(gm_log_create(space, &opts, &log, &err));
	assert_int_equal(gm_log_destroy(log, NULL), 0);
}

static int move(void *ctx)
{
	struct course *c = ctx;
	int rc;

	c->out = NULL;
	c->in = NULL;
	memset(c->states, 0, sizeof(c->states));
	memset(c->runs, 0, sizeof(c->runs));
	c->lost = 0;
	c->paused = 0;
	rc = make(c);
	if (rc) {
		c->refused++;
	} else {
		turns(c);
		/* What fails for ever hinders the end, too. */
		fault_disarm();
		turns(c);
		/* The two do not agree, and nobody asks any more: the destination has ended. */
		if (c->states[0] == GM_MIGRATE_IS_DOUBT || c->states[0] == GM_MIGRATE_IS_LOST) {
			assert_true(c->states[1] >= GM_MIGRATE_IS_ENDED);
			assert_int_equal(gm_migrate_out_force(c->out), 0);
			(void)gm_migrate_out_step(c->out, 0);
			if (c->runs[1])
				check_memory(c);
			rc = -EIO;
		} else {
			assert_true(is_over(c));
			rc = judge(c);
		}
	}
	fault_disarm();
	assert_int_equal(gm_migrate_out_destroy(c->out), 0);
	assert_int_equal(gm_migrate_in_destroy(c->in), 0);
	assert_int_equal(madvise(host_of(1), PAGES * PAGE, MADV_DONTNEED), 0);
	tidy(spaces[0]);
	tidy(spaces[1]);
	return rc;
}

static void sweep(struct course *c)
{
	static const int errnos[] = {ENOMEM, EPERM};
	unsigned long injected;

	/* Here, since cmocka has handlers of its own for each case. */
	assert_int_equal(gm_guard_install(), 0);
	fault_clock_virtual(true);
	injected = fault_sweep_opts(move, c,
		&(struct fault_sweep_opts){.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2});
	fault_clock_virtual(false);
	assert_int_equal(gm_guard_remove(), 0);
	print_message(
		"%lu faults: %lu well (%lu resumed), %lu stayed, %lu not begun; %lu pages lost\n",
		injected, c->well, c->resumed, c->stayed, c->refused, c->named);
	assert_true(injected > 200);
	assert_true(c->well > 0);
	assert_true(c->stayed > 0);
	assert_true(c->refused > 0);
}

static void each_call_fails_when_it_stops(void **ctx)
{
	(void)ctx;
	sweep(&(struct course){.way = GM_MIGRATE_OUT_STOP, .bulk = 1, .urgent = 1});
}

static void each_call_fails_in_postcopy(void **ctx)
{
	(void)ctx;
	sweep(&(struct course){
		.way = GM_MIGRATE_OUT_POSTCOPY, .bulk = 1, .urgent = 1, .ask = true});
}

static void each_call_fails_on_one_connection(void **ctx)
{
	(void)ctx;
	sweep(&(struct course){.way = GM_MIGRATE_OUT_POSTCOPY, .codec_plus = 1 + GM_SNAPSHOT_BEST});
}

static int set_up(void **ctx)
{
	struct gm_block_opts block = {.size = sizeof(block), .len = PAGES * PAGE};

	(void)ctx;
	for (int i = 0; i < 2; i++) {
		assert_ok(gm_space_create(NULL, &spaces[i], &err));
		assert_ok(gm_space_add(
			spaces[i], GM_OPTS(gm_region_desc, .backing = &block), &ids[i], &err));
		assert_ok(gm_reader_create(spaces[i], "test", &readers[i], &err));
	}
	for (uint64_t page = 0; page < PAGES; page++) {
		const struct gm_view *view = gm_reader_enter(readers[0]);

		assert_int_equal(gm_write_u64(view, page * PAGE + 8 * page, word_of(page)), 0);
		gm_reader_leave(readers[0]);
	}
	return 0;
}

static int tear_down(void **ctx)
{
	(void)ctx;
	for (int i = 0; i < 2; i++) {
		gm_reader_destroy(readers[i]);
		gm_space_destroy(spaces[i]);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_fails_when_it_stops),
		cmocka_unit_test(each_call_fails_in_postcopy),
		cmocka_unit_test(each_call_fails_on_one_connection),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
