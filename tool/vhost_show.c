/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_show.c - what a front-end has shared through the proxy, and messages, as text and as JSON. */
#include <inttypes.h>
#include <string.h>

#include "json.h"
#include "vhost_report.h"
#include "vhost_user.h"

#define TEXT_CAP 1024u
#define F_RING_PACKED (UINT64_C(1) << 34)

/* ---- what is shared ---- */

static json_t *json_region(const struct seen_region *seen)
{
	const struct report_region region = {
		.gpa = seen->region.gpa,
		.len = seen->region.len,
		.user = seen->region.user,
		.off = seen->region.off,
		.present = UINT64_MAX,
		.fd = seen->fd,
	};

	return report_region(&region);
}

static json_t *json_ring(struct seen *s, uint32_t n)
{
	const struct seen_ring *seen = &s->rings[n];
	const struct ring_place place = {
		.packed = s->features & F_RING_PACKED,
		.num = seen->num,
		.desc = seen->addr.desc,
		.avail = seen->addr.avail,
		.used = seen->addr.used,
	};
	struct report_ring ring = {
		.index = n,
		.num = seen->num,
		.base = seen->base,
		.started = seen->kicked,
		.enabled = seen->enabled,
		.logged = seen->addr.flags & GM_VHOST_VRING_LOG,
		.desc = seen->addr.desc,
		.avail = seen->addr.avail,
		.used = seen->addr.used,
	};

	ring_look(&place, seen_read, s, &ring.at);
	if (place.packed && seen->stopped && seen->told)
		ring_used_is(&ring.at, seen->base);
	return report_ring(&ring);
}

json_t *show_json(struct seen *s)
{
	json_t *regions = json_array();
	json_t *rings = json_array();

	seen_log(s);
	for (uint32_t i = 0; i < s->nr_regions; i++)
		json_array_append_new(regions, json_region(&s->regions[i]));
	for (uint32_t n = 0; n < SEEN_RINGS; n++) {
		if (s->rings[n].set)
			json_array_append_new(rings, json_ring(s, n));
	}
	return json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "event",
		"shared", "front_end_messages", (json_int_t)s->messages[0], "back_end_messages",
		(json_int_t)s->messages[1], "wrong_messages", (json_int_t)s->unknown, "offered",
		report_features(s->offered, NULL), "features", report_features(s->features, NULL),
		"protocol", report_protocol(s->protocol), "regions", regions, "rings", rings,
		"translations",
		s->features & GM_VHOST_F_IOMMU_PLATFORM ? json_integer(s->tlb.nr) : json_null(),
		"log", s->log_fd < 0 ? json_null() : report_log(s->log_len, &s->dirty));
}

void show_report(const json_t *report, bool as_json)
{
	if (as_json) {
		json_dumpf(report, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
		printf("\n");
	} else {
		report_text(report, stdout);
	}
	fflush(stdout);
}

/* ---- messages ---- */

/* What it says, in short. */
static void details(
	const struct gm_vhost_msg *msg, enum gm_vhost_from from, bool reply, char *text, size_t cap)
{
	const struct gm_vhost_region *r = &msg->u.one.region;
	const struct gm_vhost_vring_addr *a = &msg->u.addr;

	text[0] = '\0';
	if (from == GM_VHOST_FROM_FRONTEND && !reply) {
		if (msg->request == GM_VHOST_ADD_MEM_REG || msg->request == GM_VHOST_REM_MEM_REG)
			snprintf(text, cap, "gpa 0x%" PRIx64 " len 0x%" PRIx64 " user 0x%" PRIx64,
				r->gpa, r->len, r->user);
		else if (msg->request == GM_VHOST_SET_MEM_TABLE)
			snprintf(text, cap, "%u regions", msg->u.memory.nr);
		else if (msg->request == GM_VHOST_SET_VRING_ADDR)
			snprintf(text, cap,
				"ring %u desc 0x%" PRIx64 " avail 0x%" PRIx64 " used 0x%" PRIx64,
				a->index, a->desc, a->avail, a->used);
		else if (msg->request >= GM_VHOST_SET_VRING_NUM &&
			 msg->request <= GM_VHOST_GET_VRING_BASE && msg->len == 8)
			snprintf(text, cap, "ring %u %u", msg->u.vring.index, msg->u.vring.num);
	}
	if (!text[0] && msg->len == sizeof(uint64_t))
		snprintf(text, cap, "0x%" PRIx64, msg->u.number);
}

void show_message(enum gm_vhost_from from, bool channel, bool reply, const struct gm_vhost_msg *msg,
	uint32_t nr_fds, bool as_json)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(from, msg->request);
	bool front = (from == GM_VHOST_FROM_FRONTEND) != reply;
	char text[TEXT_CAP];
	char name[32];

	details(msg, from, reply, text, sizeof(text));
	snprintf(name, sizeof(name), "MESSAGE_%u", msg->request);
	if (as_json) {
		json_t *line = json_pack("{s:s, s:s, s:b, s:b, s:s, s:i, s:I, s:i, s:s}", "event",
			"message", "from", front ? "front-end" : "back-end", "channel", channel,
			"reply", reply, "name", kind ? kind->name : name, "request",
			(int)msg->request, "len", (json_int_t)msg->len, "fds", (int)nr_fds, "text",
			text);

		json_dumpf(line, stdout, JSON_COMPACT);
		json_decref(line);
		printf("\n");
	} else {
		printf("%s %s%s %u bytes %u fds %s\n", front ? "->" : "<-",
			kind ? kind->name : name,
			reply                              ? " reply"
			: msg->flags & GM_VHOST_NEED_REPLY ? " need_reply"
							   : "",
			msg->len, nr_fds, text);
	}
	fflush(stdout);
}
