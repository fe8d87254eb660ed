/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_in.c - the destination of a migration: made, asked, told. See migrate_in.h of this directory. */
#include "services/migrate_in.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "core/error.h"
#include "core/snapfile.h"
#include "services/codec.h"
#include "services/wset.h"
#include "sys/sys.h"
#include "sys/uffd.h"

#define PAGES_DEFAULT 64u
#define STATE_MAX (UINT64_C(64) << 20)
#define MEMORY_MAX (UINT64_C(16) << 40)

/* ---- states ---- */

bool gm_migrate_in_is_held(const struct gm_migrate_in *in)
{
	uint32_t state = in->machine.state;

	/* Nobody may be answered any more, and it goes on all the same. */
	return in->pager && !in->stopped && in->machine.started && state >= GM_DESTINATION_DONE &&
	       state != GM_DESTINATION_GIVING_UP;
}

uint32_t gm_migrate_in_is(const struct gm_migrate_in *in)
{
	static const uint8_t is[GM_DESTINATION_STATES] = {
		[GM_DESTINATION_IDLE] = GM_MIGRATE_IS_IDLE,
		[GM_DESTINATION_OPEN] = GM_MIGRATE_IS_SETUP,
		[GM_DESTINATION_PREPARING] = GM_MIGRATE_IS_SETUP,
		[GM_DESTINATION_ROUNDS] = GM_MIGRATE_IS_PRECOPY,
		[GM_DESTINATION_LOADING] = GM_MIGRATE_IS_SWITCH,
		[GM_DESTINATION_READY] = GM_MIGRATE_IS_HANDED,
		[GM_DESTINATION_MISSING] = GM_MIGRATE_IS_POSTCOPY,
		[GM_DESTINATION_WHOLE] = GM_MIGRATE_IS_FINISH,
		[GM_DESTINATION_DONE] = GM_MIGRATE_IS_ENDED,
		[GM_DESTINATION_NEVER] = GM_MIGRATE_IS_FAILED,
		[GM_DESTINATION_GIVING_UP] = GM_MIGRATE_IS_POSTCOPY,
		[GM_DESTINATION_GIVEN_UP] = GM_MIGRATE_IS_GIVEN_UP,
		[GM_DESTINATION_FAILED] = GM_MIGRATE_IS_FAILED,
		[GM_DESTINATION_CANCELLED] = GM_MIGRATE_IS_CANCELLED,
		[GM_DESTINATION_ENDED] = GM_MIGRATE_IS_ENDED,
	};
	uint32_t state = in->machine.state;
	bool line = in->machine.line.open;

	if (gm_migrate_in_is_held(in))
		return GM_MIGRATE_IS_FINISH;
	if (state >= GM_DESTINATION_READY && state <= GM_DESTINATION_WHOLE && !line)
		return GM_MIGRATE_IS_LOST;
	/* What answered on until its time was over has ended as it was before. */
	if (state == GM_DESTINATION_FAILED && in->machine.started)
		return GM_MIGRATE_IS_GIVEN_UP;
	return state < GM_DESTINATION_STATES ? is[state] : GM_MIGRATE_IS_IDLE;
}

static uint32_t runs_here(const struct gm_migrate_destination *d)
{
	if (d->started)
		return GM_MIGRATE_RUNS_YES;
	return d->state == GM_DESTINATION_MISSING || d->state == GM_DESTINATION_WHOLE
		       ? GM_MIGRATE_RUNS_MAY
		       : GM_MIGRATE_RUNS_NO;
}

/* One that was told on a line, and has left it, knows; one that never will run it has CANCEL for that. */
static bool answers(const struct gm_migrate_in *in)
{
	const struct gm_migrate_destination *d = &in->machine;

	switch (d->state) {
	case GM_DESTINATION_NEVER:
		return true;
	case GM_DESTINATION_DONE:
	case GM_DESTINATION_GIVEN_UP:
		return !in->was_told || d->line.open;
	default:
		return false;
	}
}

void gm_migrate_in_tell(struct gm_migrate_in *in, const struct gm_migrate_event *said)
{
	struct gm_migrate_event event = *said;

	event.state = gm_migrate_in_is(in);
	event.round = in->machine.round;
	in->stats.state = event.state;
	if ((event.rc && event.tell != GM_MIGRATE_TOLD_PEER) ||
		event.tell == GM_MIGRATE_TOLD_ENDED || event.tell == GM_MIGRATE_TOLD_FAILED) {
		in->stats.rc = event.rc;
		gm_copy_name(in->stats.why, sizeof(in->stats.why), event.why ? event.why : "");
	}
	if (!in->ops.told)
		return;
	pthread_mutex_unlock(&in->lines.lock);
	in->ops.told(in->ops.ctx, &event);
	pthread_mutex_lock(&in->lines.lock);
}

/* ---- made ---- */

static int check_opts(struct gm_migrate_in_opts *o, struct gm_error *err)
{
	if (o->flags & ~(GM_MIGRATE_IN_NO_POSTCOPY | GM_MIGRATE_IN_NO_FDS) ||
		o->pages > GM_MIGRATE_PAGES_MAX || o->state_max > GM_MIGRATE_STATE_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"options of a migration's destination that there are not");
	o->pages = o->pages ? o->pages : PAGES_DEFAULT;
	o->state_max = o->state_max ? o->state_max : STATE_MAX;
	o->memory_max = o->memory_max ? o->memory_max : MEMORY_MAX;
	return 0;
}

/* Better now than when the guest is paused. */
static int check_uffd(const struct gm_migrate_in_opts *o, struct gm_error *err)
{
	int fd;

	if (o->flags & GM_MIGRATE_IN_NO_POSTCOPY)
		return 0;
	fd = gm_uffd_open(O_NONBLOCK);
	if (fd >= 0) {
		gm_sys_close(fd);
		return 0;
	}
	return gm_error_set(err, fd, 0, 0, "post-copy needs a userfaultfd: %s%s", gm_error_word(fd),
		gm_uffd_hint(fd));
}

static void make_machine(struct gm_migrate_in *in)
{
	struct gm_migrate_destination_opts o = {
		.times = gm_migrate_lines_times(&in->opts.deadlines),
		.features = GM_MIGRATE_POSTCOPY | GM_MIGRATE_FDS,
		.pages_max = in->opts.pages,
		.state_max = in->opts.state_max,
	};

	if (in->opts.flags & GM_MIGRATE_IN_NO_POSTCOPY)
		o.features &= ~GM_MIGRATE_POSTCOPY;
	if (in->opts.flags & GM_MIGRATE_IN_NO_FDS)
		o.features &= ~GM_MIGRATE_FDS;
	o.features |= gm_codec_has(GM_SNAPFILE_ZSTD) ? GM_MIGRATE_ZSTD : 0;
	o.features |= gm_codec_has(GM_SNAPFILE_LZ4) ? GM_MIGRATE_LZ4 : 0;
	in->blank_region =
		(struct gm_migrate_region){.len = MIGRATE_PAGE, .page_log2 = GM_MIGRATE_PAGE_LOG2};
	gm_migrate_map_init(&in->map, &in->blank_region, 1, &in->blank_start);
	gm_migrate_destination_init(
		&in->machine, &o, &in->map, &in->blank[0], &in->blank[1], &in->blank[2]);
	in->lines.terms.room = in->regions;
	in->lines.terms.pages_max = in->opts.pages;
}

static void free_in(struct gm_migrate_in *in)
{
	gm_migrate_in_disarm(in);
	gm_migrate_lines_free(&in->lines);
	gm_migrate_in_let_go(in);
	gm_fds_close(&in->fds);
	gm_wset_destroy(in->opts.wset);
	gm_sys_free(in->regions);
	gm_sys_free(in->starts);
	gm_sys_free(in->bits);
	gm_sys_free(in->state);
	pthread_mutex_destroy(&in->drops_lock);
	gm_sys_free(in);
}

int gm_migrate_in_create(const struct gm_migrate_in_opts *opts, const struct gm_migrate_in_ops *ops,
	struct gm_migrate_in **ret_in, struct gm_error *err)
{
	struct gm_migrate_in *in = gm_sys_alloc(sizeof(*in));
	int rc;

	if (!in)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for a migration");
	rc = gm_migrate_lines_init(&in->lines, err);
	if (rc) {
		gm_sys_free(in);
		return rc;
	}
	pthread_mutex_init(&in->drops_lock, NULL);
	in->source_fd = -1;
	in->others_fd = -1;
	in->opts.size = sizeof(in->opts);
	rc = opts ? gm_opts_copy(&in->opts, sizeof(in->opts), opts, sizeof(opts->size)) : 0;
	/* Whatever becomes of it: what is freed is a reference. */
	in->opts.wset = !rc && in->opts.wset ? gm_wset_get(in->opts.wset) : NULL;
	if (!rc)
		rc = gm_opts_copy(&in->ops, sizeof(in->ops), ops, sizeof(*ops));
	if (rc)
		rc = gm_opts_error(err, rc, "a migration's destination");
	else if (!in->ops.prepare || !in->ops.load || !in->ops.run)
		rc = gm_error_set(err, -EINVAL, 0, 0,
			"a migration's destination needs prepare(), load() and run()");
	if (!rc)
		rc = check_opts(&in->opts, err);
	if (!rc)
		rc = check_uffd(&in->opts, err);
	if (!rc) {
		in->regions = gm_sys_alloc_array(GM_MIGRATE_REGIONS_MAX, sizeof(*in->regions));
		if (!in->regions)
			rc = gm_error_set(err, -ENOMEM, 0, 0, "no memory for the regions");
	}
	if (rc) {
		free_in(in);
		return rc;
	}
	make_machine(in);
	in->stats.size = sizeof(in->stats);
	in->stats.expected_downtime_ns = UINT64_MAX;
	in->stats.expected_end_ns = UINT64_MAX;
	*ret_in = in;
	return 0;
}

int gm_migrate_in_destroy(struct gm_migrate_in *in)
{
	if (!in)
		return 0;
	if (in->machine.state == GM_DESTINATION_MISSING ||
		in->machine.state == GM_DESTINATION_GIVING_UP)
		return -EBUSY;
	free_in(in);
	return 0;
}

/* ---- asked ---- */

int gm_migrate_in_connection(struct gm_migrate_in *in, int fd)
{
	struct gm_migrate_link *link;
	int rc;

	pthread_mutex_lock(&in->lines.lock);
	rc = gm_migrate_lines_add(&in->lines, fd,
		gm_migrate_after(gm_sys_now_ns(), in->machine.o.times.open_ns), &link, NULL);
	pthread_mutex_unlock(&in->lines.lock);
	if (!rc)
		gm_migrate_lines_kick(&in->lines);
	return rc;
}

int gm_migrate_in_fd(const struct gm_migrate_in *in)
{
	return in->lines.epoll;
}

static uint32_t number_of(enum in_wish what)
{
	return (uint32_t)__builtin_ctz(what);
}

/* With the lock, which it lets go. */
static int wish(struct gm_migrate_in *in, enum in_wish what, bool may, int rc, const char *why)
{
	may = may && rc <= 0;
	if (may) {
		in->asked &= ~(uint32_t)what;
		in->wishes |= what;
		in->wish_rc[number_of(what)] = rc;
		in->wish_why[number_of(what)] = why;
	}
	pthread_mutex_unlock(&in->lines.lock);
	if (!may)
		return -EINVAL;
	gm_migrate_lines_kick(&in->lines);
	return 0;
}

int gm_migrate_in_prepared(
	struct gm_migrate_in *in, struct gm_space *space, int rc, const char *why)
{
	bool may;

	pthread_mutex_lock(&in->lines.lock);
	may = in->asked & IN_PREPARED;
	/* Nobody else looks at the layout or the pieces now. */
	pthread_mutex_unlock(&in->lines.lock);
	if (may && !rc && !space)
		rc = -EINVAL;
	if (may && !rc)
		rc = gm_migrate_in_take_space(in, space, &why);
	pthread_mutex_lock(&in->lines.lock);
	return wish(in, IN_PREPARED, may, rc, rc && !why ? "the destination has no memory" : why);
}

int gm_migrate_in_loaded(struct gm_migrate_in *in, int rc, const char *why)
{
	pthread_mutex_lock(&in->lines.lock);
	return wish(in, IN_LOADED, in->asked & IN_LOADED, rc,
		rc && !why ? "the destination cannot load the state" : why);
}

int gm_migrate_in_started(struct gm_migrate_in *in, int rc)
{
	pthread_mutex_lock(&in->lines.lock);
	return wish(in, IN_STARTED, in->asked & IN_STARTED, rc, NULL);
}

int gm_migrate_in_give_up(struct gm_migrate_in *in, int rc)
{
	pthread_mutex_lock(&in->lines.lock);
	return wish(in, IN_GIVE_UP,
		rc && in->machine.state != GM_DESTINATION_IDLE &&
			in->machine.state <= GM_DESTINATION_MISSING,
		rc, "the destination gives up");
}

struct gm_pager *gm_migrate_in_pager(const struct gm_migrate_in *in)
{
	return in->pager;
}

struct gm_source *gm_migrate_in_source(const struct gm_migrate_in *in)
{
	return in->others;
}

/* The first run of lost pages from a bit on, as addresses within a region. */
static bool next_lost(const struct gm_migrate_in *in, uint64_t bit, struct gm_range *ret)
{
	struct gm_migrate_place place;
	struct gm_range run;

	if (!gm_migrate_map_next(
		    &in->map, in->machine.lost, bit, in->map.pages - 1, UINT32_MAX, &run))
		return false;
	place = gm_migrate_map_place(&in->map, &run);
	ret->first = in->map.regions[place.region].gpa + (place.first << GM_MIGRATE_PAGE_LOG2);
	ret->last = ret->first + ((uint64_t)place.nr << GM_MIGRATE_PAGE_LOG2) - 1;
	return true;
}

int gm_migrate_in_lost(
	struct gm_migrate_in *in, uint64_t gpa, uint64_t *ret_first, uint64_t *ret_last)
{
	struct gm_range found;
	int rc = -ENOENT;

	pthread_mutex_lock(&in->lines.lock);
	for (uint32_t i = 0; rc && i < in->map.nr; i++) {
		const struct gm_migrate_region *r = &in->map.regions[i];
		uint64_t page = 0;

		if (gpa > r->gpa && gpa - r->gpa >= r->len)
			continue;
		if (gpa > r->gpa)
			page = (gpa - r->gpa) >> GM_MIGRATE_PAGE_LOG2;
		if (!next_lost(in, in->map.starts[i] + page, &found))
			break;
		*ret_first = found.first < gpa ? gpa : found.first;
		*ret_last = found.last;
		rc = 0;
	}
	pthread_mutex_unlock(&in->lines.lock);
	return rc;
}

int gm_migrate_in_stats(struct gm_migrate_in *in, struct gm_migrate_stats *ret_stats)
{
	struct gm_migrate_stats stats;
	size_t size = ret_stats->size;

	if (size < sizeof(size) || size > sizeof(*ret_stats))
		return -EINVAL;
	pthread_mutex_lock(&in->lines.lock);
	in->stats.state = gm_migrate_in_is(in);
	in->stats.runs = runs_here(&in->machine);
	in->stats.answers = answers(in);
	in->stats.epoch = in->machine.line.epoch;
	in->stats.round = in->machine.round;
	in->stats.left = in->machine.missing << GM_MIGRATE_PAGE_LOG2;
	in->stats.wire = gm_migrate_lines_wire(&in->lines);
	in->stats.stray = in->lines.strays;
	if (in->began && in->stats.state < GM_MIGRATE_IS_ENDED)
		in->stats.total_ns = gm_sys_now_ns() - in->began;
	/* Steps may be far between. */
	gm_migrate_lines_pace(&in->lines, in->stats.pages, gm_sys_now_ns());
	stats = in->stats;
	gm_migrate_lines_stats(&in->lines, &stats);
	memcpy(ret_stats, &stats, size);
	ret_stats->size = size;
	pthread_mutex_unlock(&in->lines.lock);
	return 0;
}
