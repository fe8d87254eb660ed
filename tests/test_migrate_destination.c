/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_destination.c - the machine of the destination: each message in each state goes where
 * docs/migration-protocol.md says, and so do deadlines, openings, and what the embedder says.
 */
#include "migrate_table.h"

#include "core/migrate_destination.h"

static struct gm_migrate_destination d;
static uint64_t have[1];
static uint64_t lost[1];
static uint64_t wanted[1];
static uint64_t now;

static uint32_t did;  /* bits of gm_migrate_what */
static uint64_t sent; /* bits of gm_migrate_type */
static uint32_t poisoned;
static struct gm_migrate_action stored; /* the last DO_STORE */
static struct gm_migrate_action said;   /* the last DO_SEND */

static void drain(void)
{
	struct gm_migrate_action a;

	did = 0;
	sent = 0;
	while (gm_migrate_destination_next(&d, now, &a)) {
		did |= 1u << a.what;
		if (a.what == GM_MIGRATE_DO_SEND) {
			sent |= UINT64_C(1) << a.type;
			said = a;
		}
		if (a.what == GM_MIGRATE_DO_STORE)
			stored = a;
		if (a.what == GM_MIGRATE_DO_POISON)
			poisoned += a.place.nr;
	}
}

static int open_as(uint32_t role, uint32_t index, uint32_t epoch)
{
	struct gm_migrate_opened opened;
	struct gm_migrate_open open = {.lowest = 1,
		.highest = 3,
		.role = (uint16_t)role,
		.index = (uint16_t)index,
		.session = {7},
		.epoch = epoch,
		.bulk = 1,
		.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_LZ4};
	int rc = gm_migrate_destination_open(&d, &open, now, &opened);

	assert_int_equal(opened.version, 1);
	assert_int_equal(opened.error, -rc);
	assert_int_equal(opened.pages_max, 4);
	return rc;
}

static void open_epoch(uint32_t epoch)
{
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, epoch), 0);
	assert_int_equal(open_as(GM_MIGRATE_BULK, 0, epoch), 0);
	drain();
}

static int give(struct gm_migrate_msg msg)
{
	return gm_migrate_destination_message(&d, &msg, now);
}

static void hear(uint32_t type, uint32_t slot, uint64_t number)
{
	struct gm_migrate_msg msg = t_msg(type, slot, d.line.epoch);

	msg.number = number;
	msg.bytes = T_STATE;
	assert_int_equal(give(msg), 0);
	drain();
}

static void hear_pages(uint32_t region, uint64_t first, uint32_t nr, uint64_t round)
{
	struct gm_migrate_msg msg = t_msg(GM_MIGRATE_PAGES, 1, d.line.epoch);

	msg.number = round;
	msg.place = (struct gm_migrate_place){.region = region, .nr = nr, .first = first};
	assert_int_equal(give(msg), 0);
	drain();
	if (did & 1u << GM_MIGRATE_DO_STORE)
		assert_int_equal(gm_migrate_destination_stored(&d, &stored, 0, now), 0);
}

static void start(void)
{
	struct gm_migrate_destination_opts o = {.times = t_times,
		.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_ZSTD,
		.pages_max = 4,
		.state_max = T_STATE};

	now = 1000;
	poisoned = 0;
	gm_migrate_map_init(&t_map, t_regions, T_REGIONS, t_starts);
	gm_migrate_destination_init(&d, &o, &t_map, have, lost, wanted);
	assert_int_equal(d.missing, T_PAGES);
}

static void into(uint32_t state, bool later)
{
	start();
	if (state == GM_DESTINATION_IDLE)
		return;
	open_epoch(1);
	if (state == GM_DESTINATION_OPEN)
		return;
	hear(GM_MIGRATE_LAYOUT, 0, T_REGIONS);
	assert_true(did & 1u << GM_MIGRATE_DO_PREPARE);
	if (state == GM_DESTINATION_PREPARING)
		return;
	assert_int_equal(gm_migrate_destination_prepared(&d, 0, NULL, now), 0);
	drain();
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_ACCEPTED);
	if (state == GM_DESTINATION_ROUNDS)
		return;
	hear_pages(0, 0, 4, 1);
	hear_pages(1, 0, 6, 1);
	hear(GM_MIGRATE_ROUND, 1, 1);
	hear(GM_MIGRATE_ROUND, 0, 1);
	assert_true(did & 1u << GM_MIGRATE_DO_CONTINUE);
	if (later)
		hear(GM_MIGRATE_DISCARD, 0, 0);
	hear(GM_MIGRATE_STATE, 0, 0);
	hear(GM_MIGRATE_SWITCH, 0, later ? GM_MIGRATE_REST_LATER : GM_MIGRATE_ALL_SENT);
	assert_true(did & 1u << GM_MIGRATE_DO_LOAD);
	if (state == GM_DESTINATION_LOADING)
		return;
	assert_int_equal(gm_migrate_destination_loaded(&d, 0, NULL, now), 0);
	drain();
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_READY);
	assert_false(did & 1u << GM_MIGRATE_DO_RUN);
	if (state == GM_DESTINATION_READY)
		return;
	if (state == GM_DESTINATION_NEVER) {
		assert_int_equal(gm_migrate_destination_give_up(&d, -ECANCELED, "enough", now), 0);
		drain();
		assert_true(sent & UINT64_C(1) << GM_MIGRATE_REFUSED);
		return;
	}
	hear(GM_MIGRATE_RUN, 0, 0);
	assert_true(did & 1u << GM_MIGRATE_DO_RUN);
	assert_int_equal(gm_migrate_destination_started(&d, 0, now), 0);
	drain();
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_RUNNING);
	if (state == GM_DESTINATION_GIVEN_UP) {
		assert_int_equal(gm_migrate_destination_give_up(&d, -ECANCELED, "enough", now), 0);
		drain();
		assert_true(sent & UINT64_C(1) << GM_MIGRATE_GIVEN_UP);
	}
	if (state == GM_DESTINATION_WHOLE || state == GM_DESTINATION_DONE) {
		if (later)
			hear_pages(1, 1, 2, 0);
	}
	if (state == GM_DESTINATION_DONE)
		hear(GM_MIGRATE_DONE, 0, 0);
}

#define STAY 99u
struct row {
	uint32_t state;
	uint32_t type;
	uint32_t next;
	uint32_t says;
};

/* The messages of t_msg(), on control, or on bulk if they go there. */
static const struct row rows[] = {
	{GM_DESTINATION_OPEN, GM_MIGRATE_LAYOUT, GM_DESTINATION_PREPARING, 0},
	{GM_DESTINATION_OPEN, GM_MIGRATE_CANCEL, GM_DESTINATION_CANCELLED, 0},
	{GM_DESTINATION_PREPARING, GM_MIGRATE_CANCEL, GM_DESTINATION_CANCELLED, 0},
	{GM_DESTINATION_ROUNDS, GM_MIGRATE_CANCEL, GM_DESTINATION_CANCELLED, 0},
	{GM_DESTINATION_ROUNDS, GM_MIGRATE_STATE, STAY, 0},
	{GM_DESTINATION_LOADING, GM_MIGRATE_CANCEL, GM_DESTINATION_CANCELLED, 0},
	{GM_DESTINATION_LOADING, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_READY, GM_MIGRATE_CANCEL, GM_DESTINATION_CANCELLED, 0},
	{GM_DESTINATION_READY, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_READY, GM_MIGRATE_RUN, GM_DESTINATION_MISSING, 0},
	{GM_DESTINATION_READY, GM_MIGRATE_RECLAIM, GM_DESTINATION_NEVER, GM_MIGRATE_RECLAIMED},
	{GM_DESTINATION_MISSING, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_MISSING, GM_MIGRATE_DONE, STAY, 0},
	{GM_DESTINATION_WHOLE, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_WHOLE, GM_MIGRATE_DONE, GM_DESTINATION_DONE, GM_MIGRATE_DONE_ACK},
	{GM_DESTINATION_DONE, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_DONE, GM_MIGRATE_DONE, STAY, GM_MIGRATE_DONE_ACK},
	{GM_DESTINATION_NEVER, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_NEVER, GM_MIGRATE_RUN, STAY, GM_MIGRATE_REFUSED},
	{GM_DESTINATION_NEVER, GM_MIGRATE_RECLAIM, STAY, GM_MIGRATE_RECLAIMED},
	{GM_DESTINATION_NEVER, GM_MIGRATE_CANCEL, GM_DESTINATION_FAILED, 0},
	{GM_DESTINATION_GIVEN_UP, GM_MIGRATE_PAGES, STAY, 0},
	{GM_DESTINATION_GIVEN_UP, GM_MIGRATE_DONE, STAY, 0},
};

static const struct row *row_of(uint32_t state, uint32_t type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].state == state && rows[i].type == type)
			return &rows[i];
	}
	return NULL;
}

static void try_message(uint32_t state, uint32_t type)
{
	bool bulk = type == GM_MIGRATE_PAGES;
	bool sign = type == GM_MIGRATE_PING || type == GM_MIGRATE_PONG;
	const struct row *row = row_of(state, type);
	struct gm_migrate_msg msg;

	into(state, true);
	assert_int_equal(d.state, state);
	/* It is asked for behind RESUME: see below. */
	if (type == GM_MIGRATE_RECLAIM)
		d.asked_epoch = d.line.epoch;
	msg = t_msg(type, bulk, d.line.epoch ? d.line.epoch : 1);
	assert_int_equal(give(msg), 0);
	drain();
	if (row || sign || state == GM_DESTINATION_IDLE) {
		uint32_t next = row && row->next != STAY ? row->next : state;

		if (d.state != next)
			fail_msg("state %u, message %u: state %u, not %u", state, type, d.state,
				next);
		assert_true(!row || !row->says || (sent >> row->says & 1));
	} else {
		/* Before READY it is over; from there on only the line is. */
		assert_int_equal(
			d.state, state < GM_DESTINATION_READY ? GM_DESTINATION_FAILED : state);
		if (d.line.open || !(did & 1u << GM_MIGRATE_DO_CLOSE_ALL))
			fail_msg("state %u, message %u: the line goes on", state, type);
		assert_int_equal(
			!!(sent & UINT64_C(1) << GM_MIGRATE_REFUSED), state < GM_DESTINATION_READY);
	}
	assert_int_equal(!!(did & 1u << GM_MIGRATE_DO_RUN),
		state == GM_DESTINATION_READY && type == GM_MIGRATE_RUN);
}

static void test_each_message_in_each_state(void **state)
{
	static const uint32_t states[] = {GM_DESTINATION_IDLE, GM_DESTINATION_OPEN,
		GM_DESTINATION_PREPARING, GM_DESTINATION_ROUNDS, GM_DESTINATION_LOADING,
		GM_DESTINATION_READY, GM_DESTINATION_MISSING, GM_DESTINATION_WHOLE,
		GM_DESTINATION_DONE, GM_DESTINATION_NEVER, GM_DESTINATION_GIVEN_UP};

	(void)state;
	for (size_t at = 0; at < sizeof(states) / sizeof(states[0]); at++) {
		for (size_t i = 0; i < T_TYPES; i++)
			try_message(states[at], t_types[i]);
	}
}

static void test_resume_is_answered_by_where_it_is(void **state)
{
	static const struct {
		uint32_t from;
		uint64_t at;
		bool tells;
	} cases[] = {
		{GM_DESTINATION_READY, GM_MIGRATE_WAITING, true},
		{GM_DESTINATION_NEVER, GM_MIGRATE_WAITING, false},
		{GM_DESTINATION_MISSING, GM_MIGRATE_MISSING, true},
		{GM_DESTINATION_WHOLE, GM_MIGRATE_WHOLE, false},
		{GM_DESTINATION_DONE, GM_MIGRATE_WHOLE, false},
		{GM_DESTINATION_GIVEN_UP, GM_MIGRATE_ENDED, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_migrate_action a;
		uint32_t told = 0;

		into(cases[i].from, true);
		/* Whether or not it has seen the line go. */
		if (i % 2)
			gm_migrate_destination_lost(&d, 0, 1, -EPIPE, "lost", now);
		drain();
		open_epoch(2);
		assert_int_equal(open_as(GM_MIGRATE_BULK, 0, 1), -ESTALE);
		assert_int_equal(give(t_msg(GM_MIGRATE_RESUME, 0, 2)), 0);
		assert_true(gm_migrate_destination_next(&d, now, &a));
		assert_int_equal(a.type, GM_MIGRATE_RESUMED);
		assert_int_equal(a.number, cases[i].at);
		while (gm_migrate_destination_next(&d, now, &a)) {
			assert_int_equal(a.type, GM_MIGRATE_HAVE);
			told += a.place.nr;
		}
		assert_int_equal(told, cases[i].tells ? T_PAGES : 0);
		/* Twice it is wrong. */
		hear(GM_MIGRATE_RESUME, 0, 1);
		assert_int_equal(d.line.open, 0);
	}
}

static void test_nothing_has_a_meaning_before_resume(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_TYPES; i++) {
		bool sign = t_types[i] == GM_MIGRATE_PING || t_types[i] == GM_MIGRATE_PONG;

		if (t_types[i] == GM_MIGRATE_RESUME)
			continue;
		into(GM_DESTINATION_READY, true);
		open_epoch(2);
		/* On the old one it is not even read. */
		assert_int_equal(give(t_msg(t_types[i], 0, 1)), 0);
		drain();
		assert_int_equal(did, 0);
		hear(t_types[i], t_types[i] == GM_MIGRATE_PAGES, 0);
		assert_int_equal(d.state, GM_DESTINATION_READY);
		assert_int_equal(d.line.open == 0, !sign);
	}
}

static void test_who_waits_is_asked_for_again(void **state)
{
	(void)state;
	into(GM_DESTINATION_MISSING, true);
	assert_int_equal(gm_migrate_destination_fault(&d, &t_place, now), 0);
	drain();
	assert_int_equal(said.type, GM_MIGRATE_REQUEST);
	assert_int_equal(said.number, 1);
	/* Asked for already; here already; nowhere. */
	assert_int_equal(gm_migrate_destination_fault(&d, &t_place, now), 0);
	assert_int_equal(
		gm_migrate_destination_fault(&d, &(struct gm_migrate_place){.nr = 1}, now), 0);
	assert_int_equal(gm_migrate_destination_fault(
				 &d, &(struct gm_migrate_place){.region = 2, .nr = 1}, now),
		-ERANGE);
	drain();
	assert_int_equal(sent, 0);
	gm_migrate_destination_lost(&d, 1, 1, -EPIPE, "lost", now);
	open_epoch(2);
	hear(GM_MIGRATE_RESUME, 0, 1);
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_HAVE);
	assert_int_equal(said.type, GM_MIGRATE_REQUEST);
	assert_int_equal(said.number, 2);
	assert_memory_equal(&said.place, &t_place, sizeof(t_place));
}

static void test_rounds_wait_for_each_other(void **state)
{
	(void)state;
	into(GM_DESTINATION_ROUNDS, false);
	hear(GM_MIGRATE_ROUND, 1, 1);
	assert_true(did & 1u << GM_MIGRATE_DO_HOLD);
	assert_int_equal(give(t_msg(GM_MIGRATE_PAGES, 1, 1)), -EBUSY);
	hear(GM_MIGRATE_ROUND, 0, 1);
	assert_true(did & 1u << GM_MIGRATE_DO_CONTINUE);
	/* Pages of the round that has ended. */
	hear(GM_MIGRATE_PAGES, 1, 1);
	assert_int_equal(d.state, GM_DESTINATION_FAILED);
	into(GM_DESTINATION_ROUNDS, false);
	hear(GM_MIGRATE_ROUND, 0, 2);
	assert_int_equal(d.state, GM_DESTINATION_FAILED);
	/* While pages are stored nothing else comes from there. */
	into(GM_DESTINATION_ROUNDS, false);
	hear(GM_MIGRATE_PAGES, 1, 1);
	assert_false(stored.missing);
	assert_int_equal(give(t_msg(GM_MIGRATE_ROUND, 1, 1)), -EBUSY);
	assert_int_equal(gm_migrate_destination_stored(&d, &stored, 0, now), 0);
	hear(GM_MIGRATE_ROUND, 1, 1);
	assert_int_equal(d.state, GM_DESTINATION_ROUNDS);
}

static void test_an_end_that_does_not_read_control_is_not_silent(void **state)
{
	uint32_t pings = 0;

	(void)state;
	into(GM_DESTINATION_ROUNDS, false);
	hear(GM_MIGRATE_ROUND, 0, 1);
	for (int i = 0; i < 10; i++) {
		now += t_times.ping_ns;
		hear_pages(0, 0, 4, 1);
		gm_migrate_destination_tick(&d, now);
		drain();
		pings += !!(sent & UINT64_C(1) << GM_MIGRATE_PING);
	}
	assert_int_equal(pings, 10);
	hear(GM_MIGRATE_ROUND, 1, 1);
	hear_pages(0, 0, 4, 2);
	now += t_times.ping_ns - 1;
	gm_migrate_destination_tick(&d, now);
	drain();
	assert_int_equal(sent, 0);
}

static void test_what_was_not_sent_is_refused(void **state)
{
	struct gm_migrate_msg msg;

	(void)state;
	into(GM_DESTINATION_ROUNDS, false);
	hear_pages(0, 0, 4, 1);
	hear(GM_MIGRATE_ROUND, 1, 1);
	hear(GM_MIGRATE_ROUND, 0, 1);
	hear(GM_MIGRATE_STATE, 0, 0);
	hear(GM_MIGRATE_SWITCH, 0, GM_MIGRATE_ALL_SENT);
	assert_int_equal(d.state, GM_DESTINATION_FAILED);
	assert_int_equal(d.rc, -ENODATA);
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_REFUSED);
	/* More state than it takes. */
	into(GM_DESTINATION_ROUNDS, false);
	hear(GM_MIGRATE_STATE, 0, 0);
	hear(GM_MIGRATE_STATE, 0, T_STATE);
	assert_int_equal(d.rc, -E2BIG);
	/* Another map. */
	into(GM_DESTINATION_OPEN, false);
	msg = t_msg(GM_MIGRATE_LAYOUT, 0, 1);
	msg.nr = 1;
	assert_int_equal(give(msg), 0);
	drain();
	assert_int_equal(d.rc, -EINVAL);
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_REFUSED);
}

static void test_a_page_that_is_there_is_not_stored_again(void **state)
{
	(void)state;
	into(GM_DESTINATION_MISSING, true);
	hear(GM_MIGRATE_PAGES, 1, 0);
	assert_true((did & 1u << GM_MIGRATE_DO_STORE) && stored.missing);
	assert_int_equal(gm_migrate_destination_stored(&d, &stored, 0, now), 0);
	assert_int_equal(d.state, GM_DESTINATION_WHOLE);
	assert_true(gm_migrate_destination_has(&d, &t_place));
	hear(GM_MIGRATE_PAGES, 1, 0);
	assert_int_equal(did, 0);
	/* Dropped ones count as here. */
	into(GM_DESTINATION_MISSING, true);
	assert_int_equal(gm_migrate_destination_dropped(&d, &t_place, now), 0);
	drain();
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_DROPPED);
	assert_int_equal(d.state, GM_DESTINATION_WHOLE);
	hear(GM_MIGRATE_PAGES, 1, 0);
	assert_int_equal(did, 0);
}

static void test_what_is_given_up_is_named(void **state)
{
	(void)state;
	into(GM_DESTINATION_GIVEN_UP, true);
	assert_int_equal(poisoned, 2);
	assert_int_equal(lost[0], 0x60);
	assert_int_equal(d.missing, 0);
	/* As the source names what it cannot read. */
	into(GM_DESTINATION_MISSING, true);
	hear(GM_MIGRATE_PAGES, 1, 0);
	stored.kind = GM_MIGRATE_LOST;
	assert_int_equal(gm_migrate_destination_stored(&d, &stored, 0, now), 0);
	assert_int_equal(lost[0], 0x60);
}

static void test_done_waits_for_pages_and_then_says_what_it_lacks(void **state)
{
	(void)state;
	into(GM_DESTINATION_MISSING, true);
	hear(GM_MIGRATE_DONE, 0, 0);
	assert_int_equal(sent, 0);
	hear_pages(1, 1, 1, 0);
	assert_int_equal(d.state, GM_DESTINATION_MISSING);
	while (!(sent & UINT64_C(1) << GM_MIGRATE_HAVE)) {
		now = gm_migrate_destination_due(&d);
		gm_migrate_destination_tick(&d, now);
		drain();
		assert_int_equal(d.state, GM_DESTINATION_MISSING);
		assert_true(d.line.open);
	}
	hear(GM_MIGRATE_DONE, 0, 0);
	hear_pages(1, 2, 1, 0);
	drain();
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_DONE_ACK);
	assert_int_equal(d.state, GM_DESTINATION_DONE);
}

static void test_each_state_that_waits_has_a_deadline(void **state)
{
	static const struct {
		uint32_t from;
		bool line;
		uint32_t next;
	} cases[] = {
		{GM_DESTINATION_OPEN, true, GM_DESTINATION_FAILED},
		{GM_DESTINATION_PREPARING, true, GM_DESTINATION_FAILED},
		{GM_DESTINATION_ROUNDS, true, GM_DESTINATION_FAILED},
		{GM_DESTINATION_LOADING, true, GM_DESTINATION_FAILED},
		{GM_DESTINATION_READY, true, GM_DESTINATION_READY},
		{GM_DESTINATION_READY, false, GM_DESTINATION_NEVER},
		{GM_DESTINATION_MISSING, true, GM_DESTINATION_MISSING},
		{GM_DESTINATION_MISSING, false, GM_DESTINATION_GIVEN_UP},
		{GM_DESTINATION_WHOLE, true, GM_DESTINATION_WHOLE},
		{GM_DESTINATION_WHOLE, false, GM_DESTINATION_DONE},
		{GM_DESTINATION_DONE, false, GM_DESTINATION_ENDED},
		{GM_DESTINATION_NEVER, false, GM_DESTINATION_FAILED},
		{GM_DESTINATION_GIVEN_UP, false, GM_DESTINATION_FAILED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool done = false;

		into(cases[i].from, true);
		if (!cases[i].line)
			gm_migrate_destination_lost(&d, 0, 1, -EPIPE, "lost", now);
		drain();
		for (uint32_t ticks = 0; !done && ticks < 300; ticks++) {
			now = gm_migrate_destination_due(&d);
			assert_true(now != GM_MIGRATE_NEVER);
			gm_migrate_destination_tick(&d, now);
			drain();
			done = d.state != cases[i].from || (cases[i].line && !d.line.open);
		}
		if (d.state != cases[i].next)
			fail_msg("case %zu: state %u", i, d.state);
	}
}

static void test_openings_are_judged(void **state)
{
	struct gm_migrate_open open = {.lowest = 2, .highest = 3};
	struct gm_migrate_opened opened;

	(void)state;
	start();
	assert_int_equal(gm_migrate_destination_open(&d, &open, now, &opened), -EPROTONOSUPPORT);
	assert_int_equal(opened.version, 0);
	/* Control comes first, of the first epoch. */
	assert_int_equal(open_as(GM_MIGRATE_BULK, 0, 1), -ESTALE);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 2), -ESTALE);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 0), -EINVAL);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 1, 1), -EINVAL);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 1), 0);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 1), -EEXIST);
	assert_int_equal(open_as(GM_MIGRATE_BULK, 1, 1), -EINVAL);
	assert_int_equal(open_as(GM_MIGRATE_URGENT, 0, 1), -EINVAL);
	assert_int_equal(open_as(GM_MIGRATE_BULK, 0, 1), 0);
	assert_int_equal(open_as(GM_MIGRATE_BULK, 0, 1), -EEXIST);
	/* Nobody resumes what was not ready. */
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 2), -ESTALE);
	d.session[0] = 8;
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 1), -EBUSY);
	assert_int_equal(open_as(GM_MIGRATE_BULK, 0, 1), -EBUSY);
	/* The epoch of a line that was lost is over, and so are those before. */
	into(GM_DESTINATION_READY, true);
	open_epoch(5);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 4), -ESTALE);
	gm_migrate_destination_lost(&d, 1, 5, -EPIPE, "lost", now);
	assert_int_equal(open_as(GM_MIGRATE_CONTROL, 0, 5), -ESTALE);
	assert_int_equal(open_as(GM_MIGRATE_BULK, 0, 5), -ESTALE);
	open_epoch(6);
}

static void test_a_guest_that_did_not_start_may_go_back(void **state)
{
	(void)state;
	into(GM_DESTINATION_READY, true);
	hear(GM_MIGRATE_RUN, 0, 0);
	assert_int_equal(gm_migrate_destination_started(&d, -EIO, now), 0);
	drain();
	assert_int_equal(d.state, GM_DESTINATION_NEVER);
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_REFUSED);
	/* But not once it was said to run. */
	into(GM_DESTINATION_READY, true);
	hear(GM_MIGRATE_RUN, 0, 0);
	open_epoch(2);
	hear(GM_MIGRATE_RESUME, 0, 1);
	assert_int_equal(gm_migrate_destination_started(&d, -EIO, now), 0);
	drain();
	assert_int_equal(d.state, GM_DESTINATION_GIVEN_UP);
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_GIVEN_UP);
}

static void test_reclaim_is_asked_behind_resume(void **state)
{
	(void)state;
	into(GM_DESTINATION_READY, true);
	hear(GM_MIGRATE_RECLAIM, 0, 0);
	assert_int_equal(d.state, GM_DESTINATION_READY);
	assert_false(d.line.open);
	open_epoch(2);
	hear(GM_MIGRATE_RESUME, 0, 1);
	hear(GM_MIGRATE_RECLAIM, 0, 0);
	assert_int_equal(d.state, GM_DESTINATION_NEVER);
	assert_true(sent & UINT64_C(1) << GM_MIGRATE_RECLAIMED);
}

static void test_what_is_discarded_is_of_whole_pages(void **state)
{
	/* 4 and 6 pages, as t_regions; the second are pairs. */
	struct gm_migrate_region pairs[T_REGIONS] = {t_regions[0], t_regions[1]};
	static const struct {
		struct gm_migrate_place place;
		bool may;
	} cases[] = {
		{{.region = 0, .nr = 1, .first = 3}, true},
		{{.region = 0, .nr = 3, .first = 1}, true},
		{{.region = 1, .nr = 2}, true},
		{{.region = 1, .nr = 6}, true},
		{{.region = 1, .nr = 4, .first = 2}, true},
		{{.region = 1, .nr = 1}, false},
		{{.region = 1, .nr = 1, .first = 1}, false},
		{{.region = 1, .nr = 2, .first = 1}, false},
		{{.region = 1, .nr = 3}, false},
		{{.region = 1, .nr = 5, .first = 1}, false},
		{{.region = 1, .nr = 1, .first = 5}, false},
	};

	(void)state;
	pairs[1].page_log2 = 13;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_migrate_place places[2] = {{.region = 1, .nr = 2}, cases[i].place};
		struct gm_migrate_msg msg;
		uint64_t before;

		into(GM_DESTINATION_ROUNDS, true);
		d.map.regions = pairs;
		hear_pages(0, 0, 4, 1);
		hear_pages(1, 0, 6, 1);
		hear(GM_MIGRATE_ROUND, 1, 1);
		hear(GM_MIGRATE_ROUND, 0, 1);
		before = have[0];
		msg = t_msg(GM_MIGRATE_DISCARD, 0, 1);
		msg.places = places;
		msg.nr = 2;
		assert_int_equal(give(msg), 0);
		drain();
		assert_int_equal(!!(did & 1u << GM_MIGRATE_DO_DISCARD), cases[i].may);
		assert_int_equal(
			d.state, cases[i].may ? GM_DESTINATION_ROUNDS : GM_DESTINATION_FAILED);
		/* All of the message, or nothing. */
		assert_int_equal(have[0] == before, !cases[i].may);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_message_in_each_state),
		cmocka_unit_test(test_resume_is_answered_by_where_it_is),
		cmocka_unit_test(test_nothing_has_a_meaning_before_resume),
		cmocka_unit_test(test_who_waits_is_asked_for_again),
		cmocka_unit_test(test_rounds_wait_for_each_other),
		cmocka_unit_test(test_an_end_that_does_not_read_control_is_not_silent),
		cmocka_unit_test(test_what_was_not_sent_is_refused),
		cmocka_unit_test(test_a_page_that_is_there_is_not_stored_again),
		cmocka_unit_test(test_what_is_given_up_is_named),
		cmocka_unit_test(test_done_waits_for_pages_and_then_says_what_it_lacks),
		cmocka_unit_test(test_each_state_that_waits_has_a_deadline),
		cmocka_unit_test(test_openings_are_judged),
		cmocka_unit_test(test_a_guest_that_did_not_start_may_go_back),
		cmocka_unit_test(test_reclaim_is_asked_behind_resume),
		cmocka_unit_test(test_what_is_discarded_is_of_whole_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
