/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_out.c - the source of a migration: made, asked, told. See migrate_out.h of this directory. */
#include "services/migrate_out.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include <guestmem/snapshot.h>

#include "core/error.h"
#include "core/snapfile.h"
#include "memory/block.h"
#include "services/codec.h"
#include "sys/sys.h"

#define PAGES_DEFAULT 64u
#define DOWNTIME_MS 300u
#define ROUNDS 30u
#define MS UINT64_C(1000000)
#define LATER_LOG2_MAX 21u /* of pages that can come on demand */

/* ---- words and states ---- */

#define DROPS_MAX 8192u /* about 50 ms of the destination's time */

const char *gm_migrate_state_name(uint32_t state)
{
	static const char *const names[] = {
		[GM_MIGRATE_IS_IDLE] = "idle",
		[GM_MIGRATE_IS_SETUP] = "setup",
		[GM_MIGRATE_IS_PRECOPY] = "pre-copy",
		[GM_MIGRATE_IS_SWITCH] = "switch-over",
		[GM_MIGRATE_IS_HANDED] = "handed over",
		[GM_MIGRATE_IS_POSTCOPY] = "post-copy",
		[GM_MIGRATE_IS_FINISH] = "finishing",
		[GM_MIGRATE_IS_LOST] = "line lost",
		[GM_MIGRATE_IS_DOUBT] = "in doubt",
		[GM_MIGRATE_IS_ENDED] = "ended",
		[GM_MIGRATE_IS_CANCELLED] = "cancelled",
		[GM_MIGRATE_IS_FAILED] = "failed",
		[GM_MIGRATE_IS_RECLAIMED] = "reclaimed",
		[GM_MIGRATE_IS_GIVEN_UP] = "given up",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

uint32_t gm_migrate_out_is(const struct gm_migrate_out *out)
{
	static const uint8_t is[GM_SOURCE_STATES] = {
		[GM_SOURCE_IDLE] = GM_MIGRATE_IS_IDLE,
		[GM_SOURCE_OPENING] = GM_MIGRATE_IS_SETUP,
		[GM_SOURCE_OFFERED] = GM_MIGRATE_IS_SETUP,
		[GM_SOURCE_ROUND] = GM_MIGRATE_IS_PRECOPY,
		[GM_SOURCE_BETWEEN] = GM_MIGRATE_IS_PRECOPY,
		[GM_SOURCE_DROPPING] = GM_MIGRATE_IS_PRECOPY,
		[GM_SOURCE_PAUSING] = GM_MIGRATE_IS_SWITCH,
		[GM_SOURCE_LAST] = GM_MIGRATE_IS_SWITCH,
		[GM_SOURCE_SWITCHED] = GM_MIGRATE_IS_SWITCH,
		[GM_SOURCE_HANDED] = GM_MIGRATE_IS_HANDED,
		[GM_SOURCE_POSTCOPY] = GM_MIGRATE_IS_POSTCOPY,
		[GM_SOURCE_DONE] = GM_MIGRATE_IS_FINISH,
		[GM_SOURCE_LOST] = GM_MIGRATE_IS_LOST,
		[GM_SOURCE_RESUMING] = GM_MIGRATE_IS_LOST,
		[GM_SOURCE_ASKING] = GM_MIGRATE_IS_LOST,
		[GM_SOURCE_RECLAIM] = GM_MIGRATE_IS_LOST,
		[GM_SOURCE_DOUBT] = GM_MIGRATE_IS_DOUBT,
		[GM_SOURCE_CANCELLED] = GM_MIGRATE_IS_CANCELLED,
		[GM_SOURCE_FAILED] = GM_MIGRATE_IS_FAILED,
		[GM_SOURCE_RECLAIMED] = GM_MIGRATE_IS_RECLAIMED,
		[GM_SOURCE_FORCED] = GM_MIGRATE_IS_RECLAIMED,
		[GM_SOURCE_GIVEN_UP] = GM_MIGRATE_IS_GIVEN_UP,
		[GM_SOURCE_ENDED] = GM_MIGRATE_IS_ENDED,
	};

	return out->machine.state < GM_SOURCE_STATES ? is[out->machine.state] : GM_MIGRATE_IS_IDLE;
}

static uint32_t runs_there(const struct gm_migrate_source *s)
{
	if (s->state >= GM_SOURCE_CANCELLED && s->state <= GM_SOURCE_FORCED)
		return GM_MIGRATE_RUNS_NO;
	/* That pages were given up is told on a new line, too, instead of RUNNING. */
	if (s->phase == GM_MIGRATE_IN_POSTCOPY || s->state >= GM_SOURCE_GIVEN_UP)
		return GM_MIGRATE_RUNS_YES;
	return s->phase ? GM_MIGRATE_RUNS_MAY : GM_MIGRATE_RUNS_NO;
}

void gm_migrate_out_tell(struct gm_migrate_out *out, uint32_t tell, int rc, const char *why)
{
	struct gm_migrate_event event = {
		.tell = tell,
		.state = gm_migrate_out_is(out),
		.rc = rc,
		.round = out->machine.round,
		.why = why ? why : "",
	};

	/* The end may come in the same step as RUNNING. */
	if (!out->stats.downtime_ns && out->paused_at &&
		out->machine.phase == GM_MIGRATE_IN_POSTCOPY)
		out->stats.downtime_ns = gm_sys_now_ns() - out->paused_at;
	if (event.state >= GM_MIGRATE_IS_ENDED && out->began)
		out->stats.total_ns = gm_sys_now_ns() - out->began;
	out->stats.state = event.state;
	out->stats.epoch = out->machine.line.epoch;
	/* What the peer said is more than what we make of it. */
	if (rc && out->refusal[0])
		event.why = out->refusal;
	if (rc || tell == GM_MIGRATE_TOLD_FAILED || tell == GM_MIGRATE_TOLD_ENDED) {
		out->stats.rc = rc;
		gm_copy_name(out->stats.why, sizeof(out->stats.why), event.why);
	}
	if (!out->ops.told)
		return;
	pthread_mutex_unlock(&out->lines.lock);
	out->ops.told(out->ops.ctx, &event);
	pthread_mutex_lock(&out->lines.lock);
}

/* ---- made ---- */

static int check_opts(struct gm_migrate_out_opts *o, struct gm_error *err)
{
	if (o->flags & ~GM_MIGRATE_OUT_FDS || o->way > GM_MIGRATE_OUT_POSTCOPY ||
		o->bulk_plus > GM_MIGRATE_BULK_MAX + 1 ||
		o->urgent_plus > GM_MIGRATE_URGENT_MAX + 1 || o->pages > GM_MIGRATE_PAGES_MAX ||
		o->codec_plus > GM_SNAPSHOT_LZ4 + 1 || o->rounds > GM_MIGRATE_RATE_ROUNDS_MAX ||
		o->throttle_max > GM_MIGRATE_RATE_THROTTLE_MAX)
		return gm_error_set(
			err, -EINVAL, 0, 0, "options of a migration that there are not");
	o->bulk_plus = o->bulk_plus ? o->bulk_plus : 2;
	o->urgent_plus = o->urgent_plus ? o->urgent_plus : 2;
	o->pages = o->pages ? o->pages : PAGES_DEFAULT;
	o->downtime_ms = o->downtime_ms ? o->downtime_ms : DOWNTIME_MS;
	o->switch_ms = o->switch_ms ? o->switch_ms : o->downtime_ms / 10;
	o->rounds = o->rounds ? o->rounds : ROUNDS;
	/* A message takes 10 ms at most. */
	if (o->rate && o->rate / 100 / MIGRATE_PAGE < o->pages)
		o->pages =
			o->rate / 100 < MIGRATE_PAGE ? 1 : (uint32_t)(o->rate / 100 / MIGRATE_PAGE);
	return 0;
}

static int make_rate(struct gm_migrate_out *out, struct gm_error *err)
{
	const struct gm_migrate_out_opts *o = &out->opts;
	struct gm_migrate_rate_policy policy = {
		.downtime_ns = o->downtime_ms * MS,
		.switch_ns = o->switch_ms * MS,
		.time_ns = o->time_ms * MS,
		.rounds = o->rounds,
		.throttle_first = o->throttle_first,
		.throttle_step = o->throttle_step,
		.throttle_max = o->throttle_max,
		.at_limit = o->way == GM_MIGRATE_OUT_PRECOPY ? GM_MIGRATE_RATE_CANCEL
			    : o->way == GM_MIGRATE_OUT_STOP  ? GM_MIGRATE_RATE_HAND_OVER
							     : GM_MIGRATE_RATE_POSTCOPY,
	};
	int rc = gm_migrate_rate_init(&out->rate, &policy);

	return rc ? gm_error_set(err, rc, 0, 0, "a downtime or a throttle that cannot be") : 0;
}

/* How pages are packed, and the feature that this is. */
static int choose_codec(struct gm_migrate_out *out, uint32_t *ret_feature, struct gm_error *err)
{
	struct gm_migrate_terms *terms = &out->lines.terms;
	uint32_t codec = out->opts.codec_plus ? out->opts.codec_plus - 1 : GM_SNAPSHOT_RAW;
	bool zstd = gm_codec_has(GM_SNAPFILE_ZSTD);
	bool lz4 = gm_codec_has(GM_SNAPFILE_LZ4);

	terms->codec = GM_MIGRATE_RAW;
	*ret_feature = 0;
	if (codec == GM_SNAPSHOT_RAW || (codec == GM_SNAPSHOT_BEST && !zstd && !lz4))
		return 0;
	if ((codec == GM_SNAPSHOT_ZSTD && !zstd) || (codec == GM_SNAPSHOT_LZ4 && !lz4))
		return gm_error_set(
			err, -ENOTSUP, 0, 0, "the library was built without this codec");
	if (codec == GM_SNAPSHOT_ZSTD || (codec == GM_SNAPSHOT_BEST && zstd)) {
		terms->codec = GM_MIGRATE_BY_ZSTD;
		*ret_feature = GM_MIGRATE_ZSTD;
	} else {
		terms->codec = GM_MIGRATE_BY_LZ4;
		*ret_feature = GM_MIGRATE_LZ4;
	}
	return 0;
}

/* Of pages that cannot be there in part: transparent huge ones can. */
static uint32_t log2_of(const struct gm_block *block, const struct gm_snapshot_region *region)
{
	uint64_t page = block->page_size;

	if (!gm_is_pow2(page) || !gm_is_aligned(region->gpa | region->len, page))
		page = MIGRATE_PAGE;
	return (uint32_t)__builtin_ctzll(page);
}

static int make_regions(struct gm_migrate_out *out, struct gm_error *err)
{
	size_t nr = out->memory.nr;

	if (nr > GM_MIGRATE_REGIONS_MAX)
		return gm_error_set(err, -E2BIG, 0, 0, "%zu pieces of memory, more than %u", nr,
			GM_MIGRATE_REGIONS_MAX);
	out->regions = gm_sys_alloc_array(nr, sizeof(*out->regions));
	out->starts = gm_sys_alloc_array(nr, sizeof(*out->starts));
	out->fds = gm_sys_alloc_array(GM_MIGRATE_FDS_MAX, sizeof(*out->fds));
	if (!out->regions || !out->starts || !out->fds)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for the regions");
	for (size_t i = 0; i < nr; i++) {
		const struct saving_piece *piece = &out->memory.pieces[i];
		struct gm_block_info info = {.size = sizeof(info)};
		struct gm_migrate_region *region = &out->regions[i];

		*region = (struct gm_migrate_region){.gpa = out->memory.regions[i].gpa,
			.len = out->memory.regions[i].len,
			.page_log2 = log2_of(piece->reach.block, &out->memory.regions[i])};
		if (!(out->opts.flags & GM_MIGRATE_OUT_FDS) || !piece->file ||
			out->nr_fds == GM_MIGRATE_FDS_MAX ||
			gm_block_info(piece->reach.block, &info))
			continue;
		region->by_fd = true;
		region->fd_off = info.offset + piece->reach.block_off;
		out->fds[out->nr_fds++] = info.fd;
	}
	gm_migrate_map_init(&out->map, out->regions, (uint32_t)nr, out->starts);
	out->todo = gm_sys_alloc_array(gm_bits_words(out->map.pages), sizeof(*out->todo));
	return out->todo ? 0 : gm_error_set(err, -ENOMEM, 0, 0, "no memory for the pages' bits");
}

static int make_session(uint8_t session[16], struct gm_error *err)
{
	int fd = gm_sys_open("/dev/urandom", O_RDONLY, 0);
	ssize_t nr = fd < 0 ? fd : gm_sys_read(fd, session, 16);

	if (fd >= 0)
		gm_sys_close(fd);
	if (nr == 16)
		return 0;
	return gm_error_set(err, nr < 0 ? (int)nr : -EIO, 0, 0,
		"/dev/urandom: no name for the session: %s",
		gm_error_word(nr < 0 ? (int)nr : -EIO));
}

static int make_machine(struct gm_migrate_out *out, struct gm_error *err)
{
	struct gm_migrate_source_opts o = {
		.times = gm_migrate_lines_times(&out->opts.deadlines),
		.pages_max = out->opts.pages,
		.rounds_max = UINT32_MAX,
		.drops_max = DROPS_MAX,
		.bulk = out->opts.bulk_plus - 1,
		.urgent = out->opts.urgent_plus - 1,
	};
	int rc = choose_codec(out, &o.features, err);
	bool later = true;

	for (uint32_t i = 0; i < out->map.nr; i++)
		later &= out->regions[i].page_log2 <= LATER_LOG2_MAX || out->regions[i].by_fd;
	if (!rc && !later && out->opts.way == GM_MIGRATE_OUT_POSTCOPY)
		rc = gm_error_set(err, -ENOTSUP, 0, 0,
			"pages of more than 2 MiB do not come on demand: no post-copy");
	if (!rc)
		rc = make_session(o.session, err);
	if (rc)
		return rc;
	o.features |= later ? GM_MIGRATE_POSTCOPY : 0;
	o.features |= out->nr_fds ? GM_MIGRATE_FDS : 0;
	gm_migrate_source_init(&out->machine, &o, &out->map, out->todo);
	out->lines.terms.regions = out->regions;
	out->lines.terms.nr = out->map.nr;
	out->lines.terms.pages_max = out->opts.pages;
	out->lines.terms.source = true;
	out->lines.terms.level = out->opts.level;
	out->lines.terms.paced = out->opts.rate != 0;
	out->lines.terms.sole = !o.bulk;
	return 0;
}

static void free_out(struct gm_migrate_out *out)
{
	for (uint32_t i = 0; i < GM_MIGRATE_SLOTS; i++)
		gm_sys_free(out->loads[i].room);
	(void)gm_log_destroy(out->log, NULL);
	gm_saving_let_go(&out->memory);
	gm_sys_free(out->regions);
	gm_sys_free(out->starts);
	gm_sys_free(out->fds);
	gm_sys_free(out->todo);
	gm_sys_free(out->state);
	gm_migrate_lines_free(&out->lines);
	gm_sys_free(out);
}

int gm_migrate_out_create(struct gm_space *space, const struct gm_migrate_out_opts *opts,
	const struct gm_migrate_out_ops *ops, struct gm_migrate_out **ret_out, struct gm_error *err)
{
	struct gm_migrate_out *out = gm_sys_alloc(sizeof(*out));
	int rc;

	if (!out)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for a migration");
	rc = gm_migrate_lines_init(&out->lines, err);
	if (rc) {
		gm_sys_free(out);
		return rc;
	}
	out->memory.pagemap = -1;
	out->opts.size = sizeof(out->opts);
	rc = opts ? gm_opts_copy(&out->opts, sizeof(out->opts), opts, sizeof(out->opts.size)) : 0;
	if (!rc)
		rc = gm_opts_copy(&out->ops, sizeof(out->ops), ops, sizeof(*ops));
	if (rc)
		rc = gm_opts_error(err, rc, "a migration");
	else if (!out->ops.connect || !out->ops.pause || !out->ops.run || !out->ops.save)
		rc = gm_error_set(err, -EINVAL, 0, 0,
			"a migration needs connect(), pause(), run() and save()");
	if (!rc)
		rc = check_opts(&out->opts, err);
	if (!rc)
		rc = make_rate(out, err);
	if (!rc)
		rc = gm_saving_open(&out->memory, space, NULL, err);
	if (!rc)
		rc = make_regions(out, err);
	if (!rc)
		rc = make_machine(out, err);
	if (rc) {
		free_out(out);
		return rc;
	}
	/* It does not outlive the call. */
	out->memory.err = NULL;
	out->stats.size = sizeof(out->stats);
	out->stats.memory = gm_migrate_map_fill(&out->map, out->todo) << GM_MIGRATE_PAGE_LOG2;
	out->stats.expected_downtime_ns = UINT64_MAX;
	out->stats.expected_end_ns = UINT64_MAX;
	*ret_out = out;
	return 0;
}

int gm_migrate_out_destroy(struct gm_migrate_out *out)
{
	uint32_t is = out ? gm_migrate_out_is(out) : GM_MIGRATE_IS_IDLE;

	if (!out)
		return 0;
	if (is >= GM_MIGRATE_IS_HANDED && is <= GM_MIGRATE_IS_DOUBT)
		return -EBUSY;
	free_out(out);
	return 0;
}

/* ---- asked ---- */

/* The log covers all regions, by words of 64 pages. */
static int begin_log(struct gm_migrate_out *out, struct gm_error *err)
{
	const struct gm_migrate_region *last = &out->regions[out->map.nr - 1];
	struct gm_log_opts opts = {
		.size = sizeof(opts), .page_size = MIGRATE_PAGE, .name = "migration"};

	if (!out->stats.memory || out->then)
		return 0;
	out->log_first = gm_align_down(out->regions[0].gpa, UINT64_C(64) * MIGRATE_PAGE);
	opts.first = out->log_first;
	opts.len = last->gpa + (last->len - 1) - out->log_first + 1;
	return gm_log_create(out->memory.space, &opts, &out->log, err);
}

int gm_migrate_out_start(struct gm_migrate_out *out, struct gm_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&out->lines.lock);
	if (out->machine.state != GM_SOURCE_IDLE)
		rc = gm_error_set(err, -EINVAL, 0, 0, "the migration has begun");
	if (!rc)
		rc = begin_log(out, err);
	if (!rc) {
		out->began = gm_sys_now_ns();
		out->round_began = out->began;
		rc = gm_migrate_source_start(&out->machine, out->began);
	}
	pthread_mutex_unlock(&out->lines.lock);
	if (!rc)
		gm_migrate_lines_kick(&out->lines);
	return rc;
}

void gm_migrate_out_set_then(struct gm_migrate_out *out, const struct gm_migrate_then *then)
{
	out->then = then;
}

bool gm_migrate_out_ping(struct gm_migrate_out *out, uint64_t number)
{
	if (!gm_migrate_queue_room(&out->machine.queue))
		return false;
	gm_migrate_push_send(&out->machine.queue, 0, GM_MIGRATE_PING, number);
	return true;
}

bool gm_migrate_out_bits(const struct gm_migrate_out *out, const struct gm_migrate_place *place,
	struct gm_range *ret)
{
	return gm_migrate_map_bits(&out->map, place, ret);
}

int gm_migrate_out_fd(const struct gm_migrate_out *out)
{
	return out->lines.epoll;
}

/* Sets a wish if @may; who steps grants it. */
static int wish(struct gm_migrate_out *out, enum out_wish what, bool may, int code)
{
	if (may)
		out->wishes |= what;
	pthread_mutex_unlock(&out->lines.lock);
	if (!may)
		return code;
	gm_migrate_lines_kick(&out->lines);
	return 0;
}

int gm_migrate_out_paused(struct gm_migrate_out *out, int rc)
{
	bool may;

	pthread_mutex_lock(&out->lines.lock);
	may = out->asked_pause;
	out->asked_pause = false;
	if (may)
		out->wish_rc = rc;
	return wish(out, OUT_PAUSED, may, -EINVAL);
}

int gm_migrate_out_state(struct gm_migrate_out *out, const void *data, size_t len)
{
	uint8_t *copy = gm_sys_alloc(len ? len : 1);
	bool may;

	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, data, len);
	pthread_mutex_lock(&out->lines.lock);
	may = out->saving && !out->state;
	if (may) {
		out->state = copy;
		out->state_len = len;
	} else {
		gm_sys_free(copy);
	}
	return wish(out, OUT_STATE, may, -EINVAL);
}

static bool in_rounds(const struct gm_migrate_out *out)
{
	return out->machine.state == GM_SOURCE_ROUND || out->machine.state == GM_SOURCE_BETWEEN;
}

int gm_migrate_out_switch(struct gm_migrate_out *out, uint32_t way)
{
	bool later = way == GM_MIGRATE_OUT_POSTCOPY;
	bool may;

	if (way != GM_MIGRATE_OUT_STOP && !later)
		return -EINVAL;
	pthread_mutex_lock(&out->lines.lock);
	may = in_rounds(out);
	if (may && later && !(out->machine.features & GM_MIGRATE_POSTCOPY)) {
		pthread_mutex_unlock(&out->lines.lock);
		return -ENOTSUP;
	}
	return wish(out, later ? OUT_LATER : OUT_STOP, may, -EINVAL);
}

int gm_migrate_out_cancel(struct gm_migrate_out *out, int rc)
{
	uint32_t state;
	bool may;

	pthread_mutex_lock(&out->lines.lock);
	state = out->machine.state;
	may = state != GM_SOURCE_IDLE && state < GM_SOURCE_HANDED && !out->machine.phase;
	if (may)
		out->wish_rc = rc;
	return wish(out, OUT_CANCEL, may, -EINVAL);
}

int gm_migrate_out_resume(struct gm_migrate_out *out)
{
	pthread_mutex_lock(&out->lines.lock);
	return wish(out, OUT_RESUME,
		out->machine.state == GM_SOURCE_LOST || out->machine.state == GM_SOURCE_DOUBT,
		-EINVAL);
}

int gm_migrate_out_reclaim(struct gm_migrate_out *out)
{
	const struct gm_migrate_source *s = &out->machine;

	pthread_mutex_lock(&out->lines.lock);
	return wish(out, OUT_RECLAIM,
		s->phase == GM_MIGRATE_HANDED_OVER && s->state >= GM_SOURCE_HANDED &&
			s->state <= GM_SOURCE_DOUBT,
		-EINVAL);
}

int gm_migrate_out_force(struct gm_migrate_out *out)
{
	const struct gm_migrate_source *s = &out->machine;

	pthread_mutex_lock(&out->lines.lock);
	/* A destination that answers is not dead. (Of a clone the guest runs at both ends.) */
	return wish(out, OUT_FORCE,
		s->state >= GM_SOURCE_HANDED && s->state <= GM_SOURCE_DOUBT &&
			(!s->line.open || out->then),
		-EINVAL);
}

int gm_migrate_out_stats(struct gm_migrate_out *out, struct gm_migrate_stats *ret_stats)
{
	struct gm_migrate_stats stats;
	size_t size = ret_stats->size;

	if (size < sizeof(size) || size > sizeof(*ret_stats))
		return -EINVAL;
	pthread_mutex_lock(&out->lines.lock);
	out->stats.state = gm_migrate_out_is(out);
	out->stats.runs = runs_there(&out->machine);
	out->stats.epoch = out->machine.line.epoch;
	out->stats.wire = gm_migrate_lines_wire(&out->lines);
	out->stats.stray = out->lines.strays;
	if (out->began && out->stats.state < GM_MIGRATE_IS_ENDED)
		out->stats.total_ns = gm_sys_now_ns() - out->began;
	/* Steps may be far between. */
	gm_migrate_lines_pace(&out->lines, out->stats.pages, gm_sys_now_ns());
	stats = out->stats;
	gm_migrate_lines_stats(&out->lines, &stats);
	memcpy(ret_stats, &stats, size);
	ret_stats->size = size;
	pthread_mutex_unlock(&out->lines.lock);
	return 0;
}
