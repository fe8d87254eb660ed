/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_world.c - see migrate_world.h: the guest, the embedders, and what must hold. */
#include "migrate_world.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* ---- the guest ---- */

static bool is_by_fd(const struct world *w, uint32_t page)
{
	for (uint32_t i = 0; i < w->map.nr; i++) {
		uint64_t nr = w->regions[i].len >> GM_MIGRATE_PAGE_LOG2;

		if (page >= w->starts[i] && page - w->starts[i] < nr)
			return w->regions[i].by_fd;
	}
	return false;
}

/* Memory that came as a descriptor is one for both. */
static uint32_t *memory_at(struct world *w, bool source, uint32_t page)
{
	return &w->memory[source || is_by_fd(w, page) ? 0 : 1][page];
}

static void touch(struct world *w, bool source, uint32_t page)
{
	uint32_t *bytes = memory_at(w, source, page);

	if (world_chance(w, 2)) {
		*bytes = ++w->version;
		w->truth[page] = w->version;
		if (source)
			w->dirty |= UINT64_C(1) << page;
		return;
	}
	world_check(w, *bytes == w->truth[page], "the guest reads what it did not write");
}

static struct gm_migrate_place one_page(struct world *w, uint32_t page)
{
	struct gm_range bits = {page, page};

	return gm_migrate_map_place(&w->map, &bits);
}

static void fault_in(struct world *w, uint32_t page)
{
	struct gm_migrate_place place = one_page(w, page);

	if (w->have[0] >> page & 1)
		return;
	if (gm_migrate_destination_fault(&w->destination, &place, w->now) == 0)
		w->waits |= UINT64_C(1) << page;
}

static void drop(struct world *w, uint32_t page)
{
	struct gm_migrate_place place = one_page(w, page);

	if (w->have[0] >> page & 1)
		return;
	if (gm_migrate_destination_dropped(&w->destination, &place, w->now) == 0) {
		w->memory[1][page] = 0;
		w->truth[page] = 0;
		w->drops--;
		w->named &= ~(UINT64_C(1) << page);
	}
}

static void guest(struct world *w)
{
	uint32_t page = (uint32_t)rng_below(&w->rng, w->map.pages);

	if (w->runs_at_source) {
		touch(w, true, page);
	} else if (w->runs_at_destination && w->has_started) {
		if (!(w->have[0] >> page & 1)) {
			if (w->drops && world_chance(w, 8))
				drop(w, page);
			else
				fault_in(w, page);
		} else if (!(w->lost[0] >> page & 1)) {
			touch(w, false, page);
		}
	}
}

/* ---- the source's embedder ---- */

static void choose(struct world *w)
{
	bool later = world_chance(w, 2);
	int rc = -EINVAL;

	if (!world_chance(w, 4)) {
		w->todo[0] |= w->dirty;
		rc = gm_migrate_source_round(&w->source, w->now);
		if (rc == 0)
			w->dirty = 0;
	}
	if (rc == -EINVAL || rc == -ERANGE)
		rc = gm_migrate_source_switch(
			&w->source, later ? GM_MIGRATE_REST_LATER : GM_MIGRATE_ALL_SENT, w->now);
	w->to_choose = rc == -EBUSY;
}

static void pause_guest(struct world *w)
{
	w->to_pause = false;
	w->runs_at_source = false;
	w->todo[0] |= w->dirty;
	w->dirty = 0;
	w->to_say_paused = true;
}

static void write_state(struct world *w)
{
	if (gm_migrate_source_wrote(&w->source, w->state_len, w->now) != -EBUSY)
		w->to_write = false;
}

static void mind_line(struct world *w)
{
	uint32_t state = w->source.state;

	if (state == GM_SOURCE_DOUBT && w->killed[1] && world_chance(w, 4)) {
		/* Somebody has looked: it is dead. What the guest did there is gone. */
		if (gm_migrate_source_force(&w->source, w->now) == 0)
			memcpy(w->truth, w->memory[0], sizeof(w->truth));
		return;
	}
	if ((state != GM_SOURCE_LOST && state != GM_SOURCE_DOUBT) || w->passive || !w->resumes ||
		!world_chance(w, 8))
		return;
	w->resumes--;
	if (w->calm || !world_chance(w, 3) || gm_migrate_source_reclaim(&w->source, w->now) != 0)
		(void)gm_migrate_source_resume(&w->source, (uint32_t)rng_below(&w->rng, 3),
			(uint32_t)rng_below(&w->rng, 3), w->now);
}

static void source_embedder(struct world *w)
{
	if (w->killed[0])
		return;
	mind_line(w);
	if (w->to_pause && world_chance(w, 3)) {
		pause_guest(w);
	} else if (w->to_say_paused) {
		int rc = gm_migrate_source_paused(&w->source, w->now);

		w->to_say_paused = rc == -EBUSY;
		w->to_write = rc == 0;
	} else if (w->to_write && world_chance(w, 3)) {
		write_state(w);
	} else if (w->to_choose && world_chance(w, 3)) {
		choose(w);
	} else if (!w->to_choose && world_chance(w, 300)) {
		/* In the middle of a round. */
		(void)gm_migrate_source_switch(&w->source,
			world_chance(w, 2) ? GM_MIGRATE_ALL_SENT : GM_MIGRATE_REST_LATER, w->now);
	}
	if (world_whim(w))
		(void)gm_migrate_source_cancel(&w->source, -ECANCELED, w->now);
	if (world_whim(w))
		(void)gm_migrate_source_reclaim(&w->source, w->now);
}

/* ---- the destination's embedder ---- */

static void load(struct world *w)
{
	int rc = !w->calm && world_chance(w, 40) ? -EINVAL : 0;

	/* Devices touch memory while they are loaded. */
	if (w->destination.later && world_chance(w, 2)) {
		fault_in(w, (uint32_t)rng_below(&w->rng, w->map.pages));
		return;
	}
	if (gm_migrate_destination_loaded(&w->destination, rc, "no", w->now) != -EBUSY)
		w->to_load = false;
}

static void start(struct world *w)
{
	int rc = !w->calm && world_chance(w, 40) ? -EIO : 0;
	int said = gm_migrate_destination_started(&w->destination, rc, w->now);

	if (said == -EBUSY)
		return;
	w->to_start = false;
	if (said == 0 && rc == 0)
		w->has_started = true;
	if (said == 0 && rc && w->destination.state == GM_DESTINATION_NEVER)
		w->runs_at_destination = false;
}

static void destination_embedder(struct world *w)
{
	if (w->killed[1])
		return;
	if (w->to_prepare && world_chance(w, 3)) {
		int rc = !w->calm && world_chance(w, 40) ? -ENOMEM : 0;

		w->to_prepare = gm_migrate_destination_prepared(
					&w->destination, rc, "no", w->now) == -EBUSY;
	} else if (w->to_load && world_chance(w, 3)) {
		load(w);
	} else if (w->to_start && world_chance(w, 3)) {
		start(w);
	}
	if (world_whim(w))
		(void)gm_migrate_destination_give_up(&w->destination, -ECANCELED, "enough", w->now);
}

/* ---- what must hold ---- */

/* Whoever waits is asked for, on the line that there is. */
static void check_waits(struct world *w)
{
	const struct gm_migrate_destination *d = &w->destination;

	w->waits &= ~w->have[0];
	if (w->killed[1] || !d->resumed || d->line.open != d->line.wanted || d->telling ||
		d->state > GM_DESTINATION_WHOLE)
		return;
	world_check(w, (w->waits & ~w->asked) == 0, "somebody waits for what nobody asks for");
}

static void check_step(struct world *w)
{
	const struct gm_migrate_source *s = &w->source;

	world_check(w, !(w->runs_at_source && w->runs_at_destination), "two ends run the guest");
	world_check(w,
		!(w->kept && w->runs_at_source) || s->state == GM_SOURCE_RECLAIMED ||
			s->state == GM_SOURCE_FORCED,
		"the source runs what it has handed over");
	world_check(w, !w->acked || w->destination.missing == 0, "DONE_ACK, and pages are missing");
	check_waits(w);
}

static bool source_over(const struct world *w)
{
	return w->killed[0] || w->source.state >= GM_SOURCE_DOUBT;
}

static bool destination_over(const struct world *w)
{
	return w->killed[1] || w->destination.state == GM_DESTINATION_IDLE ||
	       (w->destination.state >= GM_DESTINATION_DONE &&
		       w->destination.state != GM_DESTINATION_GIVING_UP);
}

static bool over(struct world *w)
{
	bool undecided = w->source.state == GM_SOURCE_DOUBT && !w->killed[0] && w->killed[1];

	bool starts = w->to_start && !w->killed[1];

	return source_over(w) && destination_over(w) && !starts && !undecided;
}

static void check_memory(struct world *w)
{
	bool source = w->runs_at_source;

	for (uint32_t page = 0; page < w->map.pages; page++) {
		if (!source && (w->named >> page & 1)) {
			world_check(w, w->lost[0] >> page & 1, "a page is lost, and not named");
			continue;
		}
		world_check(w, source || (w->have[0] >> page & 1), "a page is missing at the end");
		world_check(w, *memory_at(w, source, page) == w->truth[page],
			"memory is not what the guest wrote");
	}
}

static void check_end(struct world *w)
{
	uint32_t runners = w->runs_at_source + w->runs_at_destination;

	world_check(w, runners < 2, "two ends run the guest");
	if (runners == 0)
		world_check(w, w->killed[0] || w->killed[1] || w->source.state == GM_SOURCE_DOUBT,
			"nobody runs the guest, and nobody was told");
	else
		check_memory(w);
	if (w->calm)
		world_check(w,
			w->source.state == GM_SOURCE_ENDED &&
				w->destination.state == GM_DESTINATION_DONE,
			"nothing was wrong, and it did not end well");
}

/* ---- a world ---- */

static void begin(struct world *w, uint64_t seed)
{
	static const struct gm_migrate_times times = {
		.open_ns = 2500,
		.answer_ns = 3000,
		.work_ns = 5000,
		.own_ns = 6000,
		.ping_ns = 400,
		.line_ns = 2500,
		.resume_ns = 12000,
		.linger_ns = 40000,
	};
	struct gm_migrate_source_opts so = {.times = times,
		.session = {1},
		.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_FDS,
		.pages_max = W_RUN,
		.rounds_max = 4,
		.drops_max = 1 + (uint32_t)(seed % 4)};
	struct gm_migrate_destination_opts d_opts = {.times = times,
		.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_FDS,
		.pages_max = W_RUN,
		.state_max = 4u << 20};
	uint64_t gpa = 0;

	memset(w, 0, offsetof(struct world, conns));
	for (uint32_t i = 0; i < W_CONNS; i++) {
		w->conns[i].used = false;
		w->conns[i].pipes[0].nr = 0;
		w->conns[i].pipes[1].nr = 0;
	}
	w->rng.state = seed;
	w->calm = world_chance(w, 4);
	w->passive = world_chance(w, 4);
	w->troubles = w->calm ? 0 : (uint32_t)rng_below(&w->rng, 9);
	w->late = !world_chance(w, 3);
	w->rate = 2 + (uint32_t)rng_below(&w->rng, w->late ? 15 : 60);
	w->speed = 1 + (uint32_t)rng_below(&w->rng, 4);
	w->resumes = 8;
	w->whims = w->calm || world_chance(w, 2) ? 0 : 1 + (uint32_t)rng_below(&w->rng, 3);
	w->drops = (uint32_t)rng_below(&w->rng, 3);
	w->now = 1;
	w->state_len = rng_below(&w->rng, 3) * 700000;
	so.bulk = (uint32_t)rng_below(&w->rng, 4);
	so.urgent = (uint32_t)rng_below(&w->rng, 3);
	for (uint32_t i = 0; i < W_REGIONS; i++) {
		w->regions[i].gpa = gpa;
		w->regions[i].len = (1 + rng_below(&w->rng, 13)) << GM_MIGRATE_PAGE_LOG2;
		w->regions[i].page_log2 = GM_MIGRATE_PAGE_LOG2;
		w->regions[i].by_fd = i == 1 && world_chance(w, 3);
		gpa += w->regions[i].len;
	}
	gm_migrate_map_init(&w->map, w->regions, W_REGIONS, w->starts);
	gm_migrate_source_init(&w->source, &so, &w->map, w->todo);
	gm_migrate_destination_init(&w->destination, &d_opts, &w->map, w->have, w->lost, w->wanted);
	for (uint32_t i = 0; i < w->map.pages; i++) {
		w->memory[0][i] = w->truth[i] = ++w->version;
		w->memory[1][i] = W_GARBAGE;
		if (!is_by_fd(w, i) && world_chance(w, 50))
			w->bad |= UINT64_C(1) << i;
	}
	w->runs_at_source = true;
	(void)gm_migrate_source_start(&w->source, w->now);
}

static void pass_time(struct world *w, bool idle)
{
	uint64_t s = w->killed[0] ? GM_MIGRATE_NEVER : gm_migrate_source_due(&w->source);
	uint64_t d = w->killed[1] ? GM_MIGRATE_NEVER : gm_migrate_destination_due(&w->destination);
	uint64_t due = s < d ? s : d;

	w->now += 1 + rng_below(&w->rng, 8);
	/* Now and then far ahead: nothing is asked to be quick. */
	if (idle && due != GM_MIGRATE_NEVER && due > w->now && world_chance(w, 3))
		w->now += (due - w->now) / 2;
	if (!w->killed[0] && w->now >= s)
		gm_migrate_source_tick(&w->source, w->now);
	if (!w->killed[1] && w->now >= d)
		gm_migrate_destination_tick(&w->destination, w->now);
}

/* One turn of all. Time makes long steps only if nothing else could be done. */
static void step(struct world *w)
{
	bool idle = !(w->to_pause || w->to_say_paused || w->to_write || w->to_choose ||
		      w->to_prepare || w->to_load || w->to_start);

	for (uint32_t i = 0; i < w->speed; i++) {
		switch (rng_below(&w->rng, 4)) {
		case 0:
			idle = !world_send_pages(w) && idle;
			break;
		case 1:
			idle = !world_store(w) && idle;
			break;
		default:
			idle = !world_move(w) && idle;
			break;
		}
		world_drain(w);
	}
	if (idle)
		idle = !world_move(w) && !world_send_pages(w) && !world_store(w);
	world_drain(w);
	guest(w);
	world_drain(w);
	source_embedder(w);
	destination_embedder(w);
	world_drain(w);
	if (world_chance(w, w->rate) && (!w->late || w->kept))
		world_trouble(w);
	pass_time(w, idle);
	world_drain(w);
	check_step(w);
}

const char *world_run(struct world *w, uint64_t seed)
{
	begin(w, seed);
	world_drain(w);
	while (!over(w) && !w->fault && w->steps++ < W_STEPS)
		step(w);
	world_check(w, over(w), "it does not end");
	if (!w->fault)
		check_end(w);
	return w->fault;
}
