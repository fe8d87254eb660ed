/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.h - what the files of the guest's requests share.
 *
 *   control.c          life, counts, the listener that makes normal what goes
 *   control_check.c    is a request one that may be done: code, policy, rate, range, memory
 *   control_do.c       doing it by what it is made of; batches
 *   control_attr.c     properties of mappings: the calls, all or nothing, and undoing
 *   control_map.c      which stretches have them
 *   control_message.c  requests in guest memory
 *   control_door.c     the registers through which a guest names them
 *
 * Locks: @lock for the map of properties and the calls that change them, so that both agree; @meter for
 * rate and counts. A commit sets @changing when it is asked about and clears it at its end:
 * meanwhile properties cannot be changed (-EBUSY), so what goes was made normal and stays so.
 */
#ifndef GM_SERVICES_CONTROL_H
#define GM_SERVICES_CONTROL_H

#include <guestmem/control.h>
#include <guestmem/listener.h>

#include "core/rangeset.h"
#include "memory/reach.h"
#include "services/control_map.h"

#define GM_CONTROL_RANGES_MAX 64u
#define GM_CONTROL_REACHES_MAX 64u
#define GM_CONTROL_READERS_MAX 16u

struct gm_control {
	struct gm_space *space;
	struct gm_listener *listener;
	struct gm_control_opts opts;
	struct gm_range list[GM_CONTROL_RANGES_MAX];
	struct gm_rangeset ranges;
	pthread_mutex_t lock;
	bool changing;
	struct gm_control_map map;
	struct gm_control_map plan;
	pthread_mutex_t meter;
	uint64_t level; /* of the bucket, in 1e-9 requests */
	uint64_t filled_ns;
	struct gm_control_info sum;
	struct gm_reader *readers[GM_CONTROL_READERS_MAX]; /* idle ones, of messages */
	uint32_t nr_readers;
};

/* What a code is. */
enum gm_control_class {
	GM_CLASS_TELL = 0, /* no range */
	GM_CLASS_DISCARD,
	GM_CLASS_ATTR,
	GM_CLASS_ADVICE,
	GM_CLASS_FILL,
	GM_CLASS_COLLAPSE,
	GM_CLASS_QUERY,
	GM_CLASS_MESSAGE, /* known to messages only */
};

struct gm_control_kind {
	uint8_t class;
	uint8_t mode;  /* DISCARD: enum gm_discard_mode; ADVICE: MADV_* */
	uint8_t field; /* ATTR */
	struct gm_control_attr attr;
};

/* ---- control_check.c ---- */
/* NULL: there is no such code. */
const struct gm_control_kind *gm_control_kind_of(uint64_t code);
/* Of the rate. */
bool gm_control_take_token(struct gm_control *c);
/* All but the rate. *ret is the range of codes that have one. */
int gm_control_check(struct gm_control *c, const struct gm_control_request *req,
	struct gm_range *ret, struct gm_error *err);
/* The same for one piece of memory, which is whole pages of RAM. */
int gm_control_check_reach(const struct gm_reach *reach, struct gm_error *err);

/* Readable and writable RAM, and all of it? */
bool gm_control_is_ram(struct gm_control *c, uint64_t gpa, uint64_t len);

/* ---- control_attr.c ---- */
int gm_control_attr_do(struct gm_control *c, const struct gm_range *range,
	enum gm_control_field field, const struct gm_control_attr *attr,
	struct gm_control_result *ret, struct gm_error *err);
/* With @lock: what is dying, or all of it. */
void gm_control_attr_undo(struct gm_control *c, bool all);

#endif
