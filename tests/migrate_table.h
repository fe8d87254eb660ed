/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_table.h - what the table tests of the two machines of a migration share: a map, options, messages. */
#ifndef GM_TESTS_MIGRATE_TABLE_H
#define GM_TESTS_MIGRATE_TABLE_H

#include <errno.h>
#include <string.h>

#include "core/migrate_plan.h"
#include "support.h"

#define T_REGIONS 2u
#define T_PAGES 10u /* 4, and 6 */
#define T_STATE 5000u

static const struct gm_migrate_region t_regions[T_REGIONS] = {
	{.gpa = 0, .len = 4 << 12, .page_log2 = 12},
	{.gpa = 1 << 20, .len = 6 << 12, .page_log2 = 12},
};
static const struct gm_migrate_times t_times = {
	.open_ns = 100,
	.answer_ns = 200,
	.work_ns = 300,
	.own_ns = 400,
	.ping_ns = 50,
	.line_ns = 5000,
	.resume_ns = 6000,
	.linger_ns = 7000,
};
static const uint8_t t_all[T_PAGES] = {0xff, 0xff};
static const struct gm_migrate_place t_place = {.region = 1, .nr = 2, .first = 1};

static uint64_t t_starts[T_REGIONS];
static struct gm_migrate_map t_map;

/* One message of each type that is right by itself. */
static inline struct gm_migrate_msg t_msg(uint32_t type, uint32_t slot, uint32_t epoch)
{
	struct gm_migrate_msg msg = {.slot = slot,
		.epoch = epoch,
		.type = type,
		.place = t_place,
		.kind = GM_MIGRATE_RAW,
		.regions = t_regions,
		.places = &t_place,
		.nr = 1,
		.bits = t_all};

	if (type == GM_MIGRATE_LAYOUT)
		msg.nr = T_REGIONS;
	if (type == GM_MIGRATE_STATE)
		msg.len = T_STATE;
	if (type == GM_MIGRATE_REFUSED || type == GM_MIGRATE_REQUEST ||
		type == GM_MIGRATE_GIVEN_UP || type == GM_MIGRATE_RESUMED ||
		type == GM_MIGRATE_RESUME)
		msg.number = 1;
	return msg;
}

static const uint32_t t_types[] = {GM_MIGRATE_LAYOUT, GM_MIGRATE_PAGES, GM_MIGRATE_ROUND,
	GM_MIGRATE_DISCARD, GM_MIGRATE_STATE, GM_MIGRATE_SWITCH, GM_MIGRATE_RUN, GM_MIGRATE_RECLAIM,
	GM_MIGRATE_CANCEL, GM_MIGRATE_DONE, GM_MIGRATE_RESUME, GM_MIGRATE_PING, GM_MIGRATE_PONG,
	GM_MIGRATE_ACCEPTED, GM_MIGRATE_REFUSED, GM_MIGRATE_READY, GM_MIGRATE_RUNNING,
	GM_MIGRATE_RECLAIMED, GM_MIGRATE_DONE_ACK, GM_MIGRATE_RESUMED, GM_MIGRATE_HAVE,
	GM_MIGRATE_REQUEST, GM_MIGRATE_DROPPED, GM_MIGRATE_GIVEN_UP};
#define T_TYPES (sizeof(t_types) / sizeof(t_types[0]))

#endif
