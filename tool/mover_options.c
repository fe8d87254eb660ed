/* SPDX-License-Identifier: BSD-3-Clause */
/* mover_options.c - the options of "send {...}" on the control socket: those of the command line, and no others. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <guestmem/snapshot.h>

#include "json.h"
#include "mover.h"

#define THROTTLE_FIRST 20u
#define THROTTLE_STEP 10u

enum number {
	BULK,
	URGENT,
	LEVEL,
	RATE,
	DOWNTIME,
	ROUNDS,
	LIMIT,
	THROTTLE,
	LINE,
	NR_NUMBERS,
};

static const struct {
	const char *name;
	int64_t least;
	int64_t most;
} numbers[NR_NUMBERS] = {
	[BULK] = {"bulk", 0, 16},
	[URGENT] = {"urgent", 0, 4},
	[LEVEL] = {"level", MOVER_LEVEL_LEAST, MOVER_LEVEL_MOST},
	[RATE] = {"rate", 1, INT64_MAX},
	[DOWNTIME] = {"downtime_ms", 1, UINT32_MAX - 1},
	[ROUNDS] = {"rounds", 1, MOVER_ROUNDS_MOST},
	[LIMIT] = {"limit_ms", 1, UINT32_MAX - 1},
	[THROTTLE] = {"throttle", 0, 99},
	[LINE] = {"line_ms", 1, UINT32_MAX - 1},
};

static void set_number(struct gm_migrate_out_opts *o, enum number which, int64_t n)
{
	switch (which) {
	case BULK:
		o->bulk_plus = 1 + (uint32_t)n;
		break;
	case URGENT:
		o->urgent_plus = 1 + (uint32_t)n;
		break;
	case LEVEL:
		o->level = (int32_t)n;
		break;
	case RATE:
		o->rate = (uint64_t)n;
		break;
	case DOWNTIME:
		o->downtime_ms = (uint32_t)n;
		break;
	case ROUNDS:
		o->rounds = (uint32_t)n;
		break;
	case LIMIT:
		o->time_ms = (uint32_t)n;
		break;
	case THROTTLE:
		o->throttle_max = (uint32_t)n;
		o->throttle_first = n < THROTTLE_FIRST ? (uint32_t)n : THROTTLE_FIRST;
		o->throttle_step = n ? THROTTLE_STEP : 0;
		break;
	default:
		o->deadlines.line = (uint32_t)n;
	}
}

static char *take_number(enum number which, const json_t *value, struct gm_migrate_out_opts *o)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < numbers[which].least || n > numbers[which].most)
		return tool_printf("%s: is no whole number of %" PRId64 " to %" PRId64,
			numbers[which].name, numbers[which].least, numbers[which].most);
	set_number(o, which, n);
	return NULL;
}

static const char *const ways[] = {
	[GM_MIGRATE_OUT_AUTO] = "auto",
	[GM_MIGRATE_OUT_PRECOPY] = "precopy",
	[GM_MIGRATE_OUT_STOP] = "stop",
	[GM_MIGRATE_OUT_POSTCOPY] = "postcopy",
};

static const char *const codecs[] = {
	[GM_SNAPSHOT_RAW] = "raw", [GM_SNAPSHOT_ZSTD] = "zstd", [GM_SNAPSHOT_LZ4] = "lz4"};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

/* The place of a word, or @nr. */
static size_t find_word(const char *const *words, size_t nr, const char *word)
{
	size_t i = 0;

	while (i < nr && (!word || !words[i] || strcmp(words[i], word) != 0))
		i++;
	return i;
}

const char *mover_way_name(uint32_t way)
{
	return ways[way];
}

uint32_t mover_codec_plus(const char *name)
{
	size_t codec = find_word(codecs, NR(codecs), name);

	return codec < NR(codecs) ? 1 + (uint32_t)codec : 0;
}

const char *mover_codec_name(uint32_t codec_plus)
{
	return codecs[codec_plus - 1];
}

/* NULL, or why it cannot be, for free(). */
static char *take_option(const char *name, const json_t *value, struct gm_migrate_out_opts *o)
{
	const char *word = json_string_value(value);

	for (enum number i = 0; i < NR_NUMBERS; i++) {
		if (strcmp(name, numbers[i].name) == 0)
			return take_number(i, value, o);
	}
	if (strcmp(name, "to") == 0)
		return NULL;
	if (strcmp(name, "fds") == 0) {
		o->flags |= json_is_true(value) ? GM_MIGRATE_OUT_FDS : 0;
		return json_is_boolean(value) ? NULL
					      : tool_strdup("fds: is neither true nor false");
	}
	if (strcmp(name, "way") == 0) {
		o->way = (uint32_t)find_word(ways, NR(ways), word);
		return o->way < NR(ways)
			       ? NULL
			       : tool_strdup("way: is none of auto, precopy, stop, postcopy");
	}
	if (strcmp(name, "codec") == 0) {
		o->codec_plus = mover_codec_plus(word);
		return o->codec_plus ? NULL : tool_strdup("codec: is none of raw, zstd, lz4");
	}
	return tool_printf("%s: there is no such option", name);
}

char *mover_options(const json_t *json, struct gm_migrate_out_opts *ret)
{
	const char *name;
	const json_t *value;
	void *at;

	/* json_object_foreach() is for what may be changed. */
	for (at = json_object_iter((json_t *)json); at;
		at = json_object_iter_next((json_t *)json, at)) {
		char *why;

		name = json_object_iter_key(at);
		value = json_object_iter_value(at);
		why = take_option(name, value, ret);
		if (why)
			return why;
	}
	return NULL;
}
