/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_report.c - see vhost_report.h. */
#include "vhost_report.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "json.h"

/* ---- names ---- */

static const char *const feature_names[64] = {
	[24] = "NOTIFY_ON_EMPTY",
	[26] = "LOG_ALL",
	[27] = "ANY_LAYOUT",
	[28] = "INDIRECT_DESC",
	[29] = "EVENT_IDX",
	[30] = "PROTOCOL_FEATURES",
	[32] = "VERSION_1",
	[33] = "ACCESS_PLATFORM",
	[34] = "RING_PACKED",
	[35] = "IN_ORDER",
	[36] = "ORDER_PLATFORM",
	[37] = "SR_IOV",
	[38] = "NOTIFICATION_DATA",
	[40] = "RING_RESET",
};

static const char *const protocol_names[64] = {"MQ", "LOG_SHMFD", "RARP", "REPLY_ACK", "NET_MTU",
	"BACKEND_REQ", "CROSS_ENDIAN", "CRYPTO_SESSION", "PAGEFAULT", "CONFIG", "BACKEND_SEND_FD",
	"HOST_NOTIFIER", "INFLIGHT_SHMFD", "RESET_DEVICE", "INBAND_NOTIFICATIONS",
	"CONFIGURE_MEM_SLOTS", "STATUS", "XEN_MMAP", "SHARED_OBJECT", "DEVICE_STATE",
	"GET_VRING_BASE_INFLIGHT", "GPA_ADDRESSES", "SHMEM", "GET_VRING_BASE_SKIP_DRAIN"};

/* Takes the place of a name that is not known. */
static const char *name_of(const char *const *names, unsigned int bit, char buf[16])
{
	if (names && names[bit])
		return names[bit];
	snprintf(buf, 16, "BIT_%u", bit);
	return buf;
}

json_t *report_features(uint64_t bits, const char *const *device)
{
	json_t *list = json_array();
	char buf[16];

	for (unsigned int i = 0; i < 64; i++) {
		if (bits >> i & 1)
			json_array_append_new(list,
				json_string(name_of(
					i < REPORT_DEVICE_BITS ? device : feature_names, i, buf)));
	}
	return list;
}

json_t *report_protocol(uint64_t bits)
{
	json_t *list = json_array();
	char buf[16];

	for (unsigned int i = 0; i < 64; i++) {
		if (bits >> i & 1)
			json_array_append_new(list, json_string(name_of(protocol_names, i, buf)));
	}
	return list;
}

/* ---- regions ---- */

struct file {
	uint64_t page; /* 0: there is no file */
	int seals;     /* -1: has none */
	bool writable;
	bool readable;
	bool fits;
};

static struct file file_of(const struct report_region *region)
{
	struct file file = {.seals = -1};
	struct statfs fs;
	struct stat st;
	int mode;

	if (region->fd < 0 || fstat(region->fd, &st) || fstatfs(region->fd, &fs))
		return file;
	mode = fcntl(region->fd, F_GETFL);
	file.page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : 4096;
	file.seals = fcntl(region->fd, F_GET_SEALS);
	file.writable = mode >= 0 && (mode & O_ACCMODE) == O_RDWR;
	file.readable = mode >= 0 && (mode & O_ACCMODE) != O_WRONLY;
	file.fits = region->len <= (uint64_t)st.st_size &&
		    region->off <= (uint64_t)st.st_size - region->len;
	return file;
}

static const struct {
	int bit;
	const char *name;
} seal_names[] = {{F_SEAL_SEAL, "seal"}, {F_SEAL_SHRINK, "shrink"}, {F_SEAL_GROW, "grow"},
	{F_SEAL_WRITE, "write"}, {F_SEAL_FUTURE_WRITE, "future-write"}};

#define NR_SEALS (sizeof(seal_names) / sizeof(seal_names[0]))

json_t *report_region(const struct report_region *region)
{
	struct file file = file_of(region);
	json_t *seals = json_array();

	for (size_t i = 0; file.seals > 0 && i < NR_SEALS; i++) {
		if (file.seals & seal_names[i].bit)
			json_array_append_new(seals, json_string(seal_names[i].name));
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:b, s:b, s:b, s:o, s:o}", "gpa",
		tool_json_number(region->gpa), "len", tool_json_number(region->len), "user",
		tool_json_number(region->user), "offset", tool_json_number(region->off),
		"page_size", (json_int_t)file.page, "readable", file.readable, "writable",
		file.writable, "fits", file.fits, "seals", seals, "present",
		tool_json_number(region->present));
}

/* ---- rings, log ---- */

json_t *report_ring(const struct report_ring *ring)
{
	json_t *json = json_pack("{s:i, s:i, s:b, s:b, s:I, s:b, s:o, s:o, s:o}", "index",
		(int)ring->index, "num", (int)ring->num, "started", ring->started, "enabled",
		ring->enabled, "base", (json_int_t)ring->base, "logged", ring->logged, "desc",
		tool_json_number(ring->desc), "avail", tool_json_number(ring->avail), "used",
		tool_json_number(ring->used));

	ring_json(json, &ring->at);
	return json;
}

json_t *report_log(uint64_t len, const struct dirty_log *dirty)
{
	return json_pack("{s:o, s:o, s:f}", "len", tool_json_number(len), "dirty",
		tool_json_number(dirty->marked), "dirty_per_second", dirty->rate);
}

/* ---- text ---- */

static uint64_t number(const json_t *json, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(json, name));
}

static void print_hex(FILE *out, const char *before, const json_t *json, const char *name)
{
	if (json_is_integer(json_object_get(json, name)))
		fprintf(out, "%s0x%" PRIx64, before, number(json, name));
	else
		fprintf(out, "%s?", before);
}

static void print_words(FILE *out, const json_t *list, const char *none)
{
	size_t nr = json_array_size(list);

	for (size_t i = 0; i < nr; i++) {
		const char *word = json_string_value(json_array_get(list, i));
		char buf[64];

		fprintf(out, " %s", tool_escape(word ? word : "?", buf, sizeof(buf)));
	}
	fprintf(out, "%s", nr ? "" : none);
}

static void print_region(FILE *out, const json_t *region)
{
	char buf[TOOL_UNIT_CAP];

	print_hex(out, "  gpa ", region, "gpa");
	fprintf(out, ", %s", tool_bytes(number(region, "len"), buf));
	print_hex(out, ", user ", region, "user");
	print_hex(out, ", offset ", region, "offset");
	if (number(region, "page_size") == 0) {
		fprintf(out, ", no file\n");
		return;
	}
	fprintf(out, ", pages of %s, %s%s", tool_bytes(number(region, "page_size"), buf),
		json_is_true(json_object_get(region, "readable")) ? "r" : "-",
		json_is_true(json_object_get(region, "writable")) ? "w" : "-");
	if (json_is_integer(json_object_get(region, "present")))
		fprintf(out, ", %s present", tool_bytes(number(region, "present"), buf));
	fprintf(out, ", seals:");
	print_words(out, json_object_get(region, "seals"), " none");
	fprintf(out, "%s\n",
		json_is_true(json_object_get(region, "fits")) ? "" : ", reaches behind its file");
}

static void print_place(
	FILE *out, const char *what, const json_t *ring, const char *index, const char *lap)
{
	if (!json_is_integer(json_object_get(ring, index)))
		return;
	fprintf(out, ", %s %" PRIu64, what, number(ring, index));
	if (json_is_integer(json_object_get(ring, lap)))
		fprintf(out, " (lap %" PRIu64 ")", number(ring, lap));
}

static void print_ring(FILE *out, const json_t *ring)
{
	const json_t *range = json_object_get(ring, "used_range");
	const char *unknown = json_string_value(json_object_get(ring, "unknown"));
	char buf[256];

	fprintf(out, "  ring %" PRIu64 ": %" PRIu64 " entries, %s, %s, base %" PRIu64,
		number(ring, "index"), number(ring, "num"),
		json_is_true(json_object_get(ring, "started")) ? "started" : "stopped",
		json_is_true(json_object_get(ring, "enabled")) ? "enabled" : "disabled",
		number(ring, "base"));
	print_place(out, "available", ring, "available_index", "available_lap");
	print_place(out, "used", ring, "used_index", "used_lap");
	if (json_array_size(range) == 2 && !json_is_integer(json_object_get(ring, "used_index")))
		fprintf(out, ", used %" PRId64 " to %" PRId64,
			(int64_t)json_integer_value(json_array_get(range, 0)),
			(int64_t)json_integer_value(json_array_get(range, 1)));
	fprintf(out, "%s", json_is_true(json_object_get(ring, "logged")) ? ", logged" : "");
	if (unknown)
		fprintf(out, " (%s)", tool_escape(unknown, buf, sizeof(buf)));
	fprintf(out, "\n");
}

static void print_messages(FILE *out, const json_t *report)
{
	const json_t *back = json_object_get(report, "back_end_messages");

	if (!json_is_integer(json_object_get(report, "front_end_messages")))
		return;
	fprintf(out, "messages: %" PRIu64 " of the front-end, ",
		number(report, "front_end_messages"));
	if (json_is_integer(back))
		fprintf(out, "%" PRId64 " of the back-end, ", (int64_t)json_integer_value(back));
	fprintf(out, "%" PRIu64 " that %s\n", number(report, "wrong_messages"),
		json_is_integer(back) ? "break the specification" : "failed");
}

static void print_rest(FILE *out, const json_t *report)
{
	const json_t *log = json_object_get(report, "log");
	const json_t *area = json_object_get(report, "inflight");

	if (json_is_object(log))
		fprintf(out,
			"log: %" PRIu64 " bytes, %" PRIu64
			" pages marked, %.0f pages a second anew\n",
			number(log, "len"), number(log, "dirty"),
			json_number_value(json_object_get(log, "dirty_per_second")));
	if (json_is_integer(json_object_get(report, "translations"))) {
		fprintf(out, "translations: %" PRIu64, number(report, "translations"));
		if (json_is_integer(json_object_get(report, "misses")))
			fprintf(out, ", %" PRIu64 " misses", number(report, "misses"));
		fprintf(out, "\n");
	}
	if (json_is_object(area))
		fprintf(out, "in flight: an area for %" PRIu64 " queues of %" PRIu64 " entries\n",
			number(area, "queues"), number(area, "queue_size"));
}

void report_text(const json_t *report, FILE *out)
{
	const json_t *regions = json_object_get(report, "regions");
	const json_t *rings = json_object_get(report, "rings");
	const json_t *front = json_object_get(report, "front_end");

	if (json_is_boolean(front))
		fprintf(out, "front-end: %s, %" PRIu64 " so far\n",
			json_is_true(front) ? "present" : "none", number(report, "connections"));
	print_messages(out, report);
	fprintf(out, "features:");
	print_words(out, json_object_get(report, "features"), "");
	fprintf(out, "\nprotocol features:");
	print_words(out, json_object_get(report, "protocol"), "");
	fprintf(out, "\nregions: %zu\n", json_array_size(regions));
	for (size_t i = 0; i < json_array_size(regions); i++)
		print_region(out, json_array_get(regions, i));
	for (size_t i = 0; i < json_array_size(rings); i++)
		print_ring(out, json_array_get(rings, i));
	print_rest(out, report);
}
