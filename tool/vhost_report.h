/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_report.h - what a front-end has shared, as JSON, by whoever knows it: a proxy between the ends, or the device
 * itself; and as text, from that JSON, also of another process.
 */
#ifndef TOOL_VHOST_REPORT_H
#define TOOL_VHOST_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "dirty_log.h"
#include "ring_place.h"

#define REPORT_DEVICE_BITS 24u

/* Lists of names. @device: of the first bits, which are the sort of device's, or NULL. */
json_t *report_features(uint64_t bits, const char *const *device);
json_t *report_protocol(uint64_t bits);

struct report_region {
	uint64_t gpa;
	uint64_t len;
	uint64_t user;
	uint64_t off;
	uint64_t present; /* bytes; UINT64_MAX: nobody can say */
	int fd;           /* -1: none */
};
json_t *report_region(const struct report_region *region);

struct report_ring {
	uint32_t index;
	uint32_t num;
	uint32_t base;
	bool started;
	bool enabled;
	bool logged;
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	struct ring_positions at;
};
json_t *report_ring(const struct report_ring *ring);

json_t *report_log(uint64_t len, const struct dirty_log *dirty);

/* Members that are not there, or are something else, are left out. */
void report_text(const json_t *report, FILE *out);

#endif
