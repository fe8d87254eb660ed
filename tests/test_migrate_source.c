/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_source.c - the machine of the source: each message in each state goes where docs/migration-protocol.md
 * says, and so do deadlines, commands, and connections that are lost.
 */
#include "migrate_table.h"

#include "core/migrate_source.h"

static struct gm_migrate_source s;
static uint64_t todo[1];
static uint64_t now;

/* What the machine has wanted since the last look. */
static uint32_t did;  /* bits of gm_migrate_what */
static uint64_t sent; /* bits of gm_migrate_type */

static void drain(void)
{
	struct gm_migrate_action a;
	struct gm_migrate_place places[4];

	did = 0;
	sent = 0;
	while (gm_migrate_source_next(&s, now, &a)) {
		did |= 1u << a.what;
		if (a.what == GM_MIGRATE_DO_SEND)
			sent |= UINT64_C(1) << a.type;
		while (a.what == GM_MIGRATE_DO_SEND && a.type == GM_MIGRATE_DISCARD &&
			gm_migrate_source_discards(&s, places, 4))
			;
		if (a.what == GM_MIGRATE_DO_OPEN) {
			struct gm_migrate_opened opened = {.version = 1,
				.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_FDS,
				.pages_max = 4};

			assert_int_equal(
				gm_migrate_source_opened(&s, a.slot, a.epoch, &opened, now), 0);
		}
	}
}

static void take_all(void)
{
	struct gm_migrate_place place;
	uint64_t number;

	for (uint32_t slot = 0; slot < GM_MIGRATE_SLOTS; slot++) {
		while (gm_migrate_source_take(&s, slot, &place, &number))
			;
	}
}

static void hear(uint32_t type, uint64_t number)
{
	struct gm_migrate_msg msg = t_msg(type, 0, s.line.epoch);

	msg.number = number;
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	drain();
}

static void start(uint32_t urgent)
{
	struct gm_migrate_source_opts o = {.times = t_times,
		.session = {7},
		.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_ZSTD | GM_MIGRATE_FDS,
		.pages_max = 4,
		.rounds_max = 2,
		.drops_max = 2,
		.bulk = 1,
		.urgent = urgent};

	now = 1000;
	gm_migrate_map_init(&t_map, t_regions, T_REGIONS, t_starts);
	gm_migrate_source_init(&s, &o, &t_map, todo);
	assert_int_equal(gm_migrate_source_start(&s, now), 0);
}

/* Into a state, with the rest in post-copy or not. What is later than a lost line is of the second epoch. */
static void into(uint32_t state, bool later)
{
	start(0);
	if (state == GM_SOURCE_OPENING)
		return;
	drain();
	if (state == GM_SOURCE_OFFERED)
		return;
	hear(GM_MIGRATE_ACCEPTED, 0);
	if (state == GM_SOURCE_ROUND)
		return;
	take_all();
	drain();
	if (state == GM_SOURCE_BETWEEN)
		return;
	todo[0] = state == GM_SOURCE_DROPPING ? 6 : 0;
	assert_int_equal(gm_migrate_source_switch(
				 &s, later ? GM_MIGRATE_REST_LATER : GM_MIGRATE_ALL_SENT, now),
		0);
	drain();
	assert_int_equal(!!(did & 1u << GM_MIGRATE_DO_PAUSE), state != GM_SOURCE_DROPPING);
	if (state == GM_SOURCE_DROPPING || state == GM_SOURCE_PAUSING)
		return;
	todo[0] = 6;
	assert_int_equal(gm_migrate_source_paused(&s, now), 0);
	drain();
	if (state == GM_SOURCE_LAST)
		return;
	if (!later)
		take_all();
	assert_int_equal(gm_migrate_source_wrote(&s, T_STATE, now), 0);
	drain();
	assert_true(sent & 1u << GM_MIGRATE_SWITCH);
	if (state == GM_SOURCE_SWITCHED)
		return;
	hear(GM_MIGRATE_READY, 0);
	assert_true(sent & 1u << GM_MIGRATE_RUN);
	assert_true(did & 1u << GM_MIGRATE_DO_KEEP);
	if (state == GM_SOURCE_HANDED)
		return;
	if (state == GM_SOURCE_POSTCOPY || state == GM_SOURCE_DONE) {
		hear(GM_MIGRATE_RUNNING, 0);
		if (state == GM_SOURCE_DONE)
			take_all();
		drain();
		return;
	}
	gm_migrate_source_lost(&s, 0, 1, -ECONNRESET, "lost", now);
	drain();
	if (state == GM_SOURCE_LOST)
		return;
	if (state == GM_SOURCE_DOUBT) {
		now = gm_migrate_source_due(&s);
		gm_migrate_source_tick(&s, now);
		drain();
		return;
	}
	assert_int_equal(state == GM_SOURCE_RECLAIM ? gm_migrate_source_reclaim(&s, now)
						    : gm_migrate_source_resume(&s, 1, 0, now),
		0);
	if (state == GM_SOURCE_RESUMING)
		return;
	drain();
	assert_true(sent & 1u << GM_MIGRATE_RESUME);
	if (state == GM_SOURCE_RECLAIM) {
		hear(GM_MIGRATE_RESUMED, GM_MIGRATE_WAITING);
		assert_true(sent & 1u << GM_MIGRATE_RECLAIM);
	}
}

/* Where a message leads; the number of RESUMED is tried elsewhere. 0: the line is given up. */
#define STAY 99u
struct row {
	uint32_t state;
	uint32_t type;
	uint32_t next;
};

static const struct row rows[] = {
	{GM_SOURCE_OFFERED, GM_MIGRATE_ACCEPTED, GM_SOURCE_ROUND},
	{GM_SOURCE_OFFERED, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_ROUND, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_BETWEEN, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_DROPPING, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_PAUSING, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_LAST, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_SWITCHED, GM_MIGRATE_REFUSED, GM_SOURCE_FAILED},
	{GM_SOURCE_SWITCHED, GM_MIGRATE_READY, GM_SOURCE_HANDED},
	{GM_SOURCE_SWITCHED, GM_MIGRATE_REQUEST, STAY},
	{GM_SOURCE_HANDED, GM_MIGRATE_RUNNING, GM_SOURCE_POSTCOPY},
	{GM_SOURCE_HANDED, GM_MIGRATE_REFUSED, GM_SOURCE_RECLAIMED},
	{GM_SOURCE_HANDED, GM_MIGRATE_GIVEN_UP, GM_SOURCE_GIVEN_UP},
	{GM_SOURCE_HANDED, GM_MIGRATE_REQUEST, STAY},
	{GM_SOURCE_POSTCOPY, GM_MIGRATE_REQUEST, STAY},
	{GM_SOURCE_POSTCOPY, GM_MIGRATE_DROPPED, STAY},
	{GM_SOURCE_POSTCOPY, GM_MIGRATE_GIVEN_UP, GM_SOURCE_GIVEN_UP},
	{GM_SOURCE_DONE, GM_MIGRATE_DONE_ACK, GM_SOURCE_ENDED},
	{GM_SOURCE_DONE, GM_MIGRATE_REQUEST, STAY},
	{GM_SOURCE_DONE, GM_MIGRATE_DROPPED, STAY},
	{GM_SOURCE_DONE, GM_MIGRATE_GIVEN_UP, GM_SOURCE_GIVEN_UP},
	{GM_SOURCE_ASKING, GM_MIGRATE_RESUMED, GM_SOURCE_HANDED},
	{GM_SOURCE_ASKING, GM_MIGRATE_REQUEST, STAY},
	{GM_SOURCE_ASKING, GM_MIGRATE_REFUSED, GM_SOURCE_RECLAIMED},
	{GM_SOURCE_ASKING, GM_MIGRATE_GIVEN_UP, GM_SOURCE_GIVEN_UP},
	{GM_SOURCE_RECLAIM, GM_MIGRATE_RECLAIMED, GM_SOURCE_RECLAIMED},
	{GM_SOURCE_RECLAIM, GM_MIGRATE_REFUSED, GM_SOURCE_RECLAIMED},
	{GM_SOURCE_RECLAIM, GM_MIGRATE_HAVE, STAY},
	{GM_SOURCE_RECLAIM, GM_MIGRATE_REQUEST, STAY},
};

/* 0 if the table does not have it. */
static uint32_t next_of(uint32_t state, uint32_t type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].state == state && rows[i].type == type)
			return rows[i].next == STAY ? state : rows[i].next;
	}
	if (type == GM_MIGRATE_PING || type == GM_MIGRATE_PONG)
		return state;
	return 0;
}

static bool has_line(uint32_t state)
{
	return state != GM_SOURCE_LOST && state != GM_SOURCE_DOUBT && state != GM_SOURCE_RESUMING &&
	       state != GM_SOURCE_OPENING;
}

static void try_message(uint32_t state, uint32_t type)
{
	struct gm_migrate_msg msg;
	uint32_t next = next_of(state, type);
	bool handed = state >= GM_SOURCE_HANDED;

	into(state, true);
	assert_int_equal(s.state, state);
	msg = t_msg(type, 0, s.line.epoch);
	/* HAVE that does not begin where memory does. */
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	if (!has_line(state)) {
		assert_int_equal(s.state, state);
		return;
	}
	drain();
	if (next == 0)
		next = handed ? GM_SOURCE_LOST : GM_SOURCE_FAILED;
	if (s.state != next)
		fail_msg("state %u, message %u: state %u, not %u", state, type, s.state, next);
	if (next == state)
		return;
	/* It runs here again only where the specification has it. */
	assert_int_equal(!!(did & 1u << GM_MIGRATE_DO_RUN),
		(next == GM_SOURCE_FAILED && state >= GM_SOURCE_PAUSING) ||
			next == GM_SOURCE_RECLAIMED);
	if (next == GM_SOURCE_LOST || next == GM_SOURCE_FAILED)
		assert_true(s.rc < 0 && s.why && (did & 1u << GM_MIGRATE_DO_CLOSE_ALL));
	if (next == GM_SOURCE_LOST)
		assert_true(did & 1u << GM_MIGRATE_DO_TELL_LOST);
}

static void test_each_message_in_each_state(void **state)
{
	uint32_t tried = 0;

	(void)state;
	for (uint32_t at = GM_SOURCE_OPENING; at <= GM_SOURCE_DOUBT; at++) {
		for (size_t i = 0; i < T_TYPES; i++, tried++)
			try_message(at, t_types[i]);
	}
	assert_int_equal(tried, 16 * T_TYPES);
}

static void test_ends_answer_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_TYPES; i++) {
		struct gm_migrate_msg msg = t_msg(t_types[i], 0, 1);

		into(GM_SOURCE_DONE, true);
		hear(GM_MIGRATE_DONE_ACK, 0);
		assert_int_equal(s.state, GM_SOURCE_ENDED);
		assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
		drain();
		assert_int_equal(s.state, GM_SOURCE_ENDED);
		assert_int_equal(did, 0);
	}
}

static void test_resumed_goes_by_the_table(void **state)
{
	/* By the number of RESUMED; the phase; post-copy. */
	static const struct {
		uint64_t at;
		uint32_t from;
		bool later;
		uint32_t next;
		uint32_t says;
	} cases[] = {
		{GM_MIGRATE_WAITING, GM_SOURCE_HANDED, true, GM_SOURCE_HANDED, GM_MIGRATE_RUN},
		{GM_MIGRATE_MISSING, GM_SOURCE_HANDED, true, GM_SOURCE_POSTCOPY, 0},
		{GM_MIGRATE_WHOLE, GM_SOURCE_HANDED, true, GM_SOURCE_DONE, GM_MIGRATE_DONE},
		{GM_MIGRATE_ENDED, GM_SOURCE_HANDED, true, GM_SOURCE_GIVEN_UP, 0},
		{GM_MIGRATE_WAITING, GM_SOURCE_HANDED, false, GM_SOURCE_HANDED, GM_MIGRATE_RUN},
		{GM_MIGRATE_MISSING, GM_SOURCE_HANDED, false, GM_SOURCE_DOUBT, 0},
		{GM_MIGRATE_WHOLE, GM_SOURCE_HANDED, false, GM_SOURCE_DONE, GM_MIGRATE_DONE},
		{GM_MIGRATE_WAITING, GM_SOURCE_POSTCOPY, true, GM_SOURCE_DOUBT, 0},
		{GM_MIGRATE_MISSING, GM_SOURCE_POSTCOPY, true, GM_SOURCE_POSTCOPY, 0},
		{GM_MIGRATE_WHOLE, GM_SOURCE_POSTCOPY, true, GM_SOURCE_DONE, GM_MIGRATE_DONE},
		{GM_MIGRATE_ENDED, GM_SOURCE_POSTCOPY, true, GM_SOURCE_GIVEN_UP, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		into(cases[i].from, cases[i].later);
		gm_migrate_source_lost(&s, 0, 1, -EPIPE, "lost", now);
		drain();
		assert_int_equal(s.state, GM_SOURCE_LOST);
		assert_int_equal(gm_migrate_source_resume(&s, 1, 0, now), 0);
		drain();
		hear(GM_MIGRATE_RESUMED, cases[i].at);
		if (s.state != cases[i].next)
			fail_msg("case %zu: state %u", i, s.state);
		assert_true(!cases[i].says || (sent >> cases[i].says & 1));
		assert_false(did & 1u << GM_MIGRATE_DO_RUN);
	}
}

static void test_what_reclaim_has_said_run_never_says(void **state)
{
	(void)state;
	into(GM_SOURCE_RECLAIM, true);
	gm_migrate_source_lost(&s, 0, s.line.epoch, -EPIPE, "lost", now);
	drain();
	/* Without a word of reclaim this time. */
	assert_int_equal(gm_migrate_source_resume(&s, 1, 0, now), 0);
	drain();
	hear(GM_MIGRATE_RESUMED, GM_MIGRATE_WAITING);
	assert_true(sent & 1u << GM_MIGRATE_RECLAIM);
	assert_false(sent & 1u << GM_MIGRATE_RUN);
	hear(GM_MIGRATE_RECLAIMED, 0);
	assert_int_equal(s.state, GM_SOURCE_RECLAIMED);
	assert_true(did & 1u << GM_MIGRATE_DO_RUN);
	assert_true(sent & 1u << GM_MIGRATE_CANCEL);
}

static void test_a_guest_that_runs_there_is_not_reclaimed(void **state)
{
	(void)state;
	into(GM_SOURCE_HANDED, true);
	assert_int_equal(gm_migrate_source_reclaim(&s, now), 0);
	drain();
	assert_true(sent & 1u << GM_MIGRATE_RESUME);
	hear(GM_MIGRATE_RESUMED, GM_MIGRATE_MISSING);
	assert_true(did & 1u << GM_MIGRATE_DO_TELL_RUNS);
	assert_int_equal(s.state, GM_SOURCE_POSTCOPY);
	assert_int_equal(gm_migrate_source_reclaim(&s, now), -EINVAL);
}

static void test_each_state_that_waits_has_a_deadline(void **state)
{
	(void)state;
	for (uint32_t at = GM_SOURCE_OPENING; at < GM_SOURCE_DOUBT; at++) {
		uint32_t ticks = 0;

		into(at, true);
		while (s.state == at && ticks++ < 200) {
			now = gm_migrate_source_due(&s);
			assert_true(now != GM_MIGRATE_NEVER);
			gm_migrate_source_tick(&s, now);
			/* Nobody opens connections this time. */
			s.queue.nr = s.state == at ? 0 : s.queue.nr;
		}
		if (at < GM_SOURCE_HANDED)
			assert_int_equal(s.state, GM_SOURCE_FAILED);
		else
			assert_int_equal(
				s.state, at == GM_SOURCE_LOST ? GM_SOURCE_DOUBT : GM_SOURCE_LOST);
		assert_true(s.rc == -ETIMEDOUT && s.why);
	}
}

static void test_commands_belong_to_states(void **state)
{
	(void)state;
	for (uint32_t at = GM_SOURCE_OPENING; at <= GM_SOURCE_DOUBT; at++) {
		bool down = at == GM_SOURCE_LOST || at == GM_SOURCE_DOUBT;
		bool runs = at == GM_SOURCE_POSTCOPY || at == GM_SOURCE_DONE;

		into(at, true);
		assert_int_equal(gm_migrate_source_start(&s, now), -EINVAL);
		if (at != GM_SOURCE_PAUSING)
			assert_int_equal(gm_migrate_source_paused(&s, now), -EINVAL);
		if (at != GM_SOURCE_LAST)
			assert_int_equal(gm_migrate_source_wrote(&s, 1, now), -EINVAL);
		if (at != GM_SOURCE_BETWEEN)
			assert_int_equal(gm_migrate_source_round(&s, now), -EINVAL);
		if (at != GM_SOURCE_BETWEEN && at != GM_SOURCE_ROUND)
			assert_int_equal(
				gm_migrate_source_switch(&s, GM_MIGRATE_ALL_SENT, now), -EINVAL);
		if (!down)
			assert_int_equal(gm_migrate_source_resume(&s, 0, 0, now), -EINVAL);
		if (at < GM_SOURCE_HANDED || runs)
			assert_int_equal(gm_migrate_source_reclaim(&s, now), -EINVAL);
		if (at < GM_SOURCE_HANDED)
			assert_int_equal(gm_migrate_source_force(&s, now), -EINVAL);
		assert_int_equal(gm_migrate_source_cancel(&s, -ECANCELED, now),
			at < GM_SOURCE_HANDED ? 0 : -EINVAL);
		drain();
		assert_int_equal(s.state, at < GM_SOURCE_HANDED ? GM_SOURCE_CANCELLED : s.state);
		assert_int_equal(!!(did & 1u << GM_MIGRATE_DO_RUN),
			at >= GM_SOURCE_PAUSING && at < GM_SOURCE_HANDED);
		if (at < GM_SOURCE_HANDED)
			continue;
		assert_int_equal(gm_migrate_source_force(&s, now), 0);
		drain();
		assert_int_equal(s.state, GM_SOURCE_FORCED);
		assert_true(did & 1u << GM_MIGRATE_DO_RUN);
	}
}

static void test_rounds_are_bounded(void **state)
{
	(void)state;
	into(GM_SOURCE_BETWEEN, false);
	todo[0] = 1;
	assert_int_equal(gm_migrate_source_round(&s, now), 0);
	take_all();
	drain();
	assert_int_equal(s.state, GM_SOURCE_BETWEEN);
	assert_int_equal(gm_migrate_source_round(&s, now), -ERANGE);
	assert_int_equal(gm_migrate_source_switch(&s, GM_MIGRATE_REST_LATER, now), 0);
}

/* While the guest runs, a few places at a time; then those of the pause. */
static void test_what_is_out_of_date_is_dropped_before_the_pause(void **state)
{
	struct gm_migrate_place places[8];
	uint64_t number;

	(void)state;
	into(GM_SOURCE_BETWEEN, true);
	todo[0] = 0x155;
	assert_int_equal(gm_migrate_source_switch(&s, GM_MIGRATE_REST_LATER, now), 0);
	drain();
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(s.state, GM_SOURCE_DROPPING);
		assert_true(sent & 1u << GM_MIGRATE_DISCARD && sent & 1u << GM_MIGRATE_PING);
		/* They were taken. */
		assert_int_equal(gm_migrate_source_discards(&s, places, 8), 0);
		/* The answer to another ping is none to this. */
		number = s.drops;
		hear(GM_MIGRATE_PONG, number - 1);
		assert_int_equal(s.state, GM_SOURCE_DROPPING);
		assert_false(did & 1u << GM_MIGRATE_DO_PAUSE);
		hear(GM_MIGRATE_PONG, number);
		assert_int_equal(!!(did & 1u << GM_MIGRATE_DO_PAUSE), i == 2);
	}
	assert_true(s.paused);
	assert_int_equal(s.state, GM_SOURCE_PAUSING);
	assert_int_equal(todo[0], 0x155);
	todo[0] |= 0x200;
	assert_int_equal(gm_migrate_source_paused(&s, now), 0);
	assert_int_equal(gm_migrate_source_discards(&s, places, 8), 5);
	assert_int_equal(gm_migrate_source_discards(&s, places, 8), 0);
}

static void test_what_is_asked_for_goes_first(void **state)
{
	struct gm_migrate_msg msg = t_msg(GM_MIGRATE_REQUEST, 0, 1);
	struct gm_migrate_place place;
	uint64_t number = 7;

	(void)state;
	into(GM_SOURCE_LAST, true);
	todo[0] = 0x3ff;
	s.left = 10;
	assert_int_equal(gm_migrate_source_wrote(&s, 0, now), 0);
	drain();
	/* Before RUN only what somebody asks for: loading devices may. */
	assert_false(gm_migrate_source_take(&s, 1, &place, &number));
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	assert_false(gm_migrate_source_take(&s, 0, &place, &number));
	assert_true(gm_migrate_source_take(&s, 1, &place, &number));
	assert_memory_equal(&place, &t_place, sizeof(place));
	assert_int_equal(number, 0);
	hear(GM_MIGRATE_READY, 0);
	/* Once. And in the background what lies behind it. */
	msg.number = 2;
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	assert_true(gm_migrate_source_take(&s, 1, &place, &number));
	assert_int_equal(place.region, 1);
	assert_int_equal(place.first, 3);
	assert_int_equal(s.nr_asked, 0);
}

static void test_requests_ascend_and_are_bounded(void **state)
{
	struct gm_migrate_msg msg = t_msg(GM_MIGRATE_REQUEST, 0, 1);

	(void)state;
	into(GM_SOURCE_HANDED, true);
	todo[0] = 0x3ff;
	for (uint64_t i = 1; i <= GM_MIGRATE_REQUESTS_MAX; i++) {
		msg.number = i;
		assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
		assert_int_equal(s.state, GM_SOURCE_HANDED);
	}
	msg.number++;
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	assert_int_equal(s.state, GM_SOURCE_LOST);
	into(GM_SOURCE_HANDED, true);
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	assert_int_equal(s.state, GM_SOURCE_HANDED);
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	assert_int_equal(s.state, GM_SOURCE_LOST);
	/* Of pages that there are not. */
	into(GM_SOURCE_HANDED, true);
	msg.place.nr = 7;
	assert_int_equal(gm_migrate_source_message(&s, &msg, now), 0);
	assert_int_equal(s.state, GM_SOURCE_LOST);
}

static void test_have_tells_of_all_pages_in_their_order(void **state)
{
	struct gm_migrate_msg have = t_msg(GM_MIGRATE_HAVE, 0, 2);
	uint8_t bits[1] = {5};
	struct gm_migrate_place place;
	uint64_t number;

	(void)state;
	into(GM_SOURCE_ASKING, true);
	hear(GM_MIGRATE_RESUMED, GM_MIGRATE_MISSING);
	have.bits = bits;
	have.place = (struct gm_migrate_place){.region = 0, .nr = 4, .first = 0};
	assert_int_equal(gm_migrate_source_message(&s, &have, now), 0);
	assert_false(gm_migrate_source_take(&s, 1, &place, &number));
	have.place = (struct gm_migrate_place){.region = 1, .nr = 6, .first = 0};
	bits[0] = 0x3f;
	assert_int_equal(gm_migrate_source_message(&s, &have, now), 0);
	assert_int_equal(s.state, GM_SOURCE_POSTCOPY);
	assert_int_equal(todo[0], 0xa);
	assert_int_equal(s.left, 2);
	take_all();
	drain();
	assert_int_equal(s.state, GM_SOURCE_DONE);
	/* He lacks one all the same. */
	have.place = (struct gm_migrate_place){.region = 0, .nr = 4, .first = 0};
	bits[0] = 7;
	assert_int_equal(gm_migrate_source_message(&s, &have, now), 0);
	assert_int_equal(s.state, GM_SOURCE_POSTCOPY);
	/* With a gap, or a second time. */
	assert_int_equal(gm_migrate_source_message(&s, &have, now), 0);
	assert_int_equal(s.state, GM_SOURCE_LOST);
}

static void test_openings_are_judged(void **state)
{
	static const struct {
		struct gm_migrate_opened opened;
		int rc;
	} cases[] = {
		{{.version = 0}, -EPROTONOSUPPORT},
		{{.version = 2, .pages_max = 1}, -EPROTO},
		{{.version = 1, .pages_max = 1, .error = EBUSY}, -EBUSY},
		{{.version = 1, .pages_max = 0}, -EPROTO},
		{{.version = 1, .pages_max = GM_MIGRATE_PAGES_MAX + 1}, -EPROTO},
		{{.version = 1, .pages_max = 1, .features = GM_MIGRATE_LZ4}, -EPROTO},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_migrate_action a;

		start(0);
		assert_true(gm_migrate_source_next(&s, now, &a));
		assert_int_equal(a.what, GM_MIGRATE_DO_OPEN);
		/* Of a connection that is not awaited. */
		assert_int_equal(gm_migrate_source_opened(&s, 1, 1, &cases[i].opened, now), 0);
		assert_int_equal(gm_migrate_source_opened(&s, 0, 2, &cases[i].opened, now), 0);
		assert_int_equal(s.state, GM_SOURCE_OPENING);
		assert_int_equal(gm_migrate_source_opened(&s, 0, 1, &cases[i].opened, now), 0);
		assert_int_equal(s.state, GM_SOURCE_FAILED);
		assert_int_equal(s.rc, cases[i].rc);
	}
}

static void test_memory_by_descriptors_is_agreed_on(void **state)
{
	static const struct gm_migrate_region region = {
		.gpa = 0, .len = 3 << 12, .page_log2 = 12, .by_fd = true};
	struct gm_migrate_opened opened = {.version = 1, .pages_max = 4};
	struct gm_migrate_action a;
	uint64_t starts[1];

	(void)state;
	for (int agreed = 0; agreed < 2; agreed++) {
		start(0);
		gm_migrate_map_init(&s.map, &region, 1, starts);
		assert_true(gm_migrate_source_next(&s, now, &a));
		opened.features = agreed ? GM_MIGRATE_FDS : 0;
		assert_int_equal(gm_migrate_source_opened(&s, 0, 1, &opened, now), 0);
		assert_int_equal(s.state, agreed ? GM_SOURCE_OFFERED : GM_SOURCE_FAILED);
		assert_int_equal(s.rc, agreed ? 0 : -ENOTSUP);
	}
}

static void test_what_is_discarded_is_of_whole_pages(void **state)
{
	/* The second region begins at an odd bit, in the middle of a word. */
	static const struct gm_migrate_region regions[] = {
		{.gpa = 0, .len = 3 << 12, .page_log2 = 12},
		{.gpa = 1 << 20, .len = 8 << 12, .page_log2 = 14},
		{.gpa = 2 << 20, .len = 4 << 12, .page_log2 = 14, .by_fd = true},
	};
	static const struct {
		uint64_t todo;
		bool may;
	} cases[] = {
		{0x78, true},
		{0x780, true},
		{0x7f8, true},
		{0x7fd, true},
		{0x2, true},
		{0x7800, true}, /* not sent at all */
		{0x800, true},
		{0x8, false},
		{0x38, false},
		{0x70, false},
		{0xf0, false},
		{0x3f8, false},
		{0x7f0, false},
		{0x400, false},
		{0x7ff & ~0x100, false},
	};
	uint64_t starts[3];
	struct gm_migrate_place places[4];

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		bool later = i % 2;
		bool may = cases[i / 2].may || !later;

		start(0);
		gm_migrate_map_init(&s.map, regions, 3, starts);
		drain();
		hear(GM_MIGRATE_ACCEPTED, 0);
		take_all();
		drain();
		assert_int_equal(gm_migrate_source_switch(&s,
					 later ? GM_MIGRATE_REST_LATER : GM_MIGRATE_ALL_SENT, now),
			0);
		drain();
		todo[0] = cases[i / 2].todo;
		assert_int_equal(gm_migrate_source_paused(&s, now), may ? 0 : -EINVAL);
		assert_int_equal(s.state, may ? GM_SOURCE_LAST : GM_SOURCE_PAUSING);
		assert_true(todo[0] == (may ? cases[i / 2].todo & 0x7ff : cases[i / 2].todo));
		/* It may be set right. */
		todo[0] = 0x78;
		assert_int_equal(gm_migrate_source_paused(&s, now), may ? -EINVAL : 0);
		if (may)
			continue;
		assert_int_equal(gm_migrate_source_discards(&s, places, 4), 1);
		assert_true(places[0].region == 1 && !places[0].first && places[0].nr == 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_message_in_each_state),
		cmocka_unit_test(test_ends_answer_nothing),
		cmocka_unit_test(test_resumed_goes_by_the_table),
		cmocka_unit_test(test_what_reclaim_has_said_run_never_says),
		cmocka_unit_test(test_a_guest_that_runs_there_is_not_reclaimed),
		cmocka_unit_test(test_each_state_that_waits_has_a_deadline),
		cmocka_unit_test(test_commands_belong_to_states),
		cmocka_unit_test(test_rounds_are_bounded),
		cmocka_unit_test(test_what_is_out_of_date_is_dropped_before_the_pause),
		cmocka_unit_test(test_what_is_asked_for_goes_first),
		cmocka_unit_test(test_requests_ascend_and_are_bounded),
		cmocka_unit_test(test_have_tells_of_all_pages_in_their_order),
		cmocka_unit_test(test_openings_are_judged),
		cmocka_unit_test(test_memory_by_descriptors_is_agreed_on),
		cmocka_unit_test(test_what_is_discarded_is_of_whole_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
