/* SPDX-License-Identifier: BSD-3-Clause */
/* run_words.c - the payload's name and its parameters, NAME=VALUE. */
#include <math.h>
#include <string.h>

#include "run.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

enum word_kind { WORD_NUMBER, WORD_SIZE, WORD_CHOICE, WORD_HUNDREDTHS, WORD_SECONDS, WORD_FILE };

struct word {
	const char *name;
	enum word_kind kind;
	uint32_t arg;        /* RUN_ARG_* */
	const char *choices; /* of WORD_CHOICE: with spaces between, the first is 0 */
	uint64_t min;
	uint64_t max;
};

#define WORDS_MAX 7

struct payload {
	const char *name;
	uint64_t defaults[RUN_NR_ARGS];
	struct word words[WORDS_MAX];
	const char *figures[RUN_NR_FIGURES];
};

#define NUMBER(name, arg, min)                                                                     \
	{                                                                                          \
		name, WORD_NUMBER, arg, NULL, min, UINT64_MAX >> 1                                 \
	}
#define ORDER                                                                                      \
	{                                                                                          \
		"order", WORD_CHOICE, RUN_ARG_ORDER, "sequential random", 0, 0                     \
	}
#define VERIFY                                                                                     \
	{                                                                                          \
		"verify", WORD_CHOICE, RUN_ARG_VERIFY, "no yes", 0, 0                              \
	}
#define STRIDE                                                                                     \
	{                                                                                          \
		"stride", WORD_SIZE, RUN_ARG_STRIDE, NULL, 8, UINT64_C(1) << 45                    \
	}

static const struct payload payloads[RUN_NR_PAYLOADS] = {
	[RUN_TOUCH] = {"touch",
		{[RUN_ARG_STRIDE] = 4096,
			[RUN_ARG_WRITE] = 1,
			[RUN_ARG_ROUNDS] = 1,
			[RUN_ARG_VERIFY] = 1},
		{ORDER, STRIDE, {"mode", WORD_CHOICE, RUN_ARG_WRITE, "read write", 0, 0},
			NUMBER("rounds", RUN_ARG_ROUNDS, 1), VERIFY},
		{NULL}},
	[RUN_CHASE] = {"chase", {[RUN_ARG_STRIDE] = 64, [RUN_ARG_COUNT] = 1 << 20},
		{STRIDE, NUMBER("steps", RUN_ARG_COUNT, 1)}, {"layout_ticks"}},
	[RUN_STREAM] = {"stream", {[RUN_ARG_WRITE] = 1, [RUN_ARG_ROUNDS] = 5, [RUN_ARG_VERIFY] = 1},
		{{"kernel", WORD_CHOICE, RUN_ARG_WRITE, "copy triad", 0, 0},
			NUMBER("rounds", RUN_ARG_ROUNDS, 1), VERIFY},
		{NULL}},
	[RUN_STORE] = {"store",
		{[RUN_ARG_COUNT] = 1 << 20, [RUN_ARG_WRITE] = 50, [RUN_ARG_SKEW] = 99},
		{NUMBER("ops", RUN_ARG_COUNT, 1), NUMBER("keys", RUN_ARG_KEYS, 1),
			{"writes", WORD_NUMBER, RUN_ARG_WRITE, NULL, 0, 100},
			{"skew", WORD_HUNDREDTHS, RUN_ARG_SKEW, NULL, 0, 200}},
		{"load_ticks", "writes", "keys"}},
	[RUN_STAMP] = {"stamp", {[RUN_ARG_ROUNDS] = 1, [RUN_ARG_VERIFY] = 1},
		{ORDER, NUMBER("rounds", RUN_ARG_ROUNDS, 0), NUMBER("pages", RUN_ARG_COUNT, 1),
			{"pause", WORD_SECONDS, 0, NULL, 0, 3600}, VERIFY},
		{"rounds"}},
	[RUN_REPLAY] = {"replay", {[RUN_ARG_WRITE] = 1},
		{{"trace", WORD_FILE, 0, NULL, 0, 0},
			{"mode", WORD_CHOICE, RUN_ARG_WRITE, "read recorded", 0, 0},
			{"slower", WORD_SECONDS, 0, NULL, 0, 1000000}},
		{"records", "writes"}},
	[RUN_CONTROL] = {"control", {[RUN_ARG_ROUNDS] = 1, [RUN_ARG_COUNT] = 100},
		{NUMBER("rounds", RUN_ARG_ROUNDS, 1), NUMBER("flood", RUN_ARG_COUNT, 0)},
		{"requests", "refused", "throttled", "lifted"}},
};

const char *run_payload_name(const struct run_opts *o)
{
	return o->payload == RUN_PROGRAM ? o->words[0] : payloads[o->payload].name;
}

const char *run_figure_name(uint32_t payload, uint32_t figure)
{
	return payloads[payload].figures[figure];
}

static bool bad(const struct payload *payload, const char *word, const char *why)
{
	tool_error("%s: '%s' %s (see guestmem-run(1))", payload->name, word, why);
	return false;
}

static bool take_choice(const struct word *w, const char *value, uint64_t *ret)
{
	const char *at = w->choices;

	for (uint64_t i = 0; *at; i++) {
		size_t len = strcspn(at, " ");

		if (strlen(value) == len && strncmp(at, value, len) == 0) {
			*ret = i;
			return true;
		}
		at += len + (at[len] == ' ');
	}
	return false;
}

static bool take_value(struct run_opts *o, const struct word *w, const char *value)
{
	uint64_t *arg = &o->args[w->arg];
	double n = 0;
	bool well = true;

	switch (w->kind) {
	case WORD_NUMBER:
		return tool_parse_number(value, w->max, arg) && *arg >= w->min;
	case WORD_SIZE:
		return tool_parse_size(value, arg) && *arg >= w->min && *arg <= w->max &&
		       *arg % 8 == 0;
	case WORD_CHOICE:
		return take_choice(w, value, arg);
	case WORD_HUNDREDTHS:
		well = tool_parse_seconds(value, (double)w->min, (double)w->max / 100, &n);
		*arg = (uint64_t)lround(n * 100);
		return well;
	case WORD_SECONDS:
		return tool_parse_seconds(value, (double)w->min, (double)w->max, &o->pause);
	case WORD_FILE:
		o->memory.data = value;
		return value[0];
	}
	return false;
}

static bool take_word(struct run_opts *o, const struct payload *payload, const char *word)
{
	size_t len = strcspn(word, "=");

	for (size_t i = 0; word[len] && i < WORDS_MAX && payload->words[i].name; i++) {
		const struct word *w = &payload->words[i];

		if (strlen(w->name) != len || strncmp(w->name, word, len) != 0)
			continue;
		return take_value(o, w, word + len + 1) ||
		       bad(payload, word, "has a value that cannot be");
	}
	return bad(payload, word, "is no parameter of this payload");
}

bool run_words(struct run_opts *o, char **words, int nr)
{
	o->words = words;
	o->nr_words = (uint32_t)nr;
	o->payload = RUN_PROGRAM;
	for (uint32_t i = 1; i < RUN_NR_PAYLOADS; i++) {
		if (strcmp(words[0], payloads[i].name) == 0)
			o->payload = i;
	}
	if (o->payload == RUN_PROGRAM) {
		if (strchr(words[0], '/'))
			return true;
		tool_error("run: '%s' is no payload, and no path of a program: that has a slash",
			words[0]);
		return false;
	}
	memcpy(o->args, payloads[o->payload].defaults, sizeof(o->args));
	for (int i = 1; i < nr; i++) {
		if (!take_word(o, &payloads[o->payload], words[i]))
			return false;
	}
	if (o->payload == RUN_REPLAY && !o->memory.data) {
		tool_error("replay: trace=FILE is missing");
		return false;
	}
	return true;
}
