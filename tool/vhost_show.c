/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_show.c - what a front-end has shared, as text and as JSON. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "json.h"
#include "vhost_user.h"

#define TEXT_CAP 1024u

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

static const char *bit_name(const char *const *names, unsigned int bit, char buf[16])
{
	if (names[bit])
		return names[bit];
	snprintf(buf, 16, "BIT_%u", bit);
	return buf;
}

static void print_bits(const char *what, const char *const *names, uint64_t bits)
{
	char buf[16];

	printf("%s:", what);
	for (unsigned int i = 0; i < 64; i++) {
		if (bits >> i & 1)
			printf(" %s", bit_name(names, i, buf));
	}
	printf("\n");
}

static json_t *json_bits(const char *const *names, uint64_t bits)
{
	json_t *list = json_array();
	char buf[16];

	for (unsigned int i = 0; i < 64; i++) {
		if (bits >> i & 1)
			json_array_append_new(list, json_string(bit_name(names, i, buf)));
	}
	return list;
}

/* ---- files ---- */

struct file {
	bool known;
	uint64_t len;
	uint64_t page;
	int seals; /* -1: has none */
	bool writable;
	bool readable;
	bool fits;
};

static struct file file_of(const struct seen_region *region)
{
	struct file file = {.seals = -1};
	struct statfs fs;
	struct stat st;
	int mode;

	if (region->fd < 0 || fstat(region->fd, &st) || fstatfs(region->fd, &fs))
		return file;
	mode = fcntl(region->fd, F_GETFL);
	file.known = true;
	file.len = (uint64_t)st.st_size;
	file.page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : 4096;
	file.seals = fcntl(region->fd, F_GET_SEALS);
	file.writable = mode >= 0 && (mode & O_ACCMODE) == O_RDWR;
	file.readable = mode >= 0 && (mode & O_ACCMODE) != O_WRONLY;
	file.fits = region->region.len <= file.len &&
		    region->region.off <= file.len - region->region.len;
	return file;
}

static const struct {
	int bit;
	const char *name;
} seal_names[] = {{F_SEAL_SEAL, "seal"}, {F_SEAL_SHRINK, "shrink"}, {F_SEAL_GROW, "grow"},
	{F_SEAL_WRITE, "write"}, {F_SEAL_FUTURE_WRITE, "future-write"}};

#define NR_SEALS (sizeof(seal_names) / sizeof(seal_names[0]))

static void print_region(const struct seen_region *region)
{
	struct file file = file_of(region);
	char len[TOOL_UNIT_CAP];
	char page[TOOL_UNIT_CAP];

	printf("  gpa 0x%" PRIx64 ", %s, user 0x%" PRIx64 ", offset 0x%" PRIx64, region->region.gpa,
		tool_bytes(region->region.len, len), region->region.user, region->region.off);
	if (!file.known) {
		printf(", no file\n");
		return;
	}
	printf(", pages of %s, %s%s, seals:", tool_bytes(file.page, page),
		file.readable ? "r" : "-", file.writable ? "w" : "-");
	for (size_t i = 0; file.seals > 0 && i < NR_SEALS; i++) {
		if (file.seals & seal_names[i].bit)
			printf(" %s", seal_names[i].name);
	}
	printf("%s%s\n", file.seals > 0 ? "" : " none",
		file.fits ? "" : ", reaches behind its file");
}

static json_t *json_region(const struct seen_region *region)
{
	struct file file = file_of(region);
	json_t *seals = json_array();
	json_t *ret = json_pack("{s:o, s:o, s:o, s:o}", "gpa", tool_json_number(region->region.gpa),
		"len", tool_json_number(region->region.len), "user",
		tool_json_number(region->region.user), "offset",
		tool_json_number(region->region.off));

	for (size_t i = 0; file.seals > 0 && i < NR_SEALS; i++) {
		if (file.seals & seal_names[i].bit)
			json_array_append_new(seals, json_string(seal_names[i].name));
	}
	json_object_set_new(ret, "page_size", json_integer((json_int_t)file.page));
	json_object_set_new(ret, "readable", json_boolean(file.readable));
	json_object_set_new(ret, "writable", json_boolean(file.writable));
	json_object_set_new(ret, "fits", json_boolean(file.fits));
	json_object_set_new(ret, "seals", seals);
	return ret;
}

/* ---- rings ---- */

/* Positions of a split ring, -1 = nobody can say. */
static long index_at(const struct seen *s, const struct seen_ring *ring, uint64_t at)
{
	uint16_t index;
	bool split = !(s->features >> 34 & 1) && !(s->features & GM_VHOST_F_IOMMU_PLATFORM);

	return split && ring->num && at <= UINT64_MAX - 2 && seen_word(s, at + 2, &index) ? index
											  : -1;
}

static void print_ring(const struct seen *s, uint32_t n)
{
	const struct seen_ring *ring = &s->rings[n];
	long avail = index_at(s, ring, ring->addr.avail);
	long used = index_at(s, ring, ring->addr.used);

	printf("  ring %u: %u entries, %s, %s, base %u", n, ring->num,
		ring->kicked ? "started" : "stopped", ring->enabled ? "enabled" : "disabled",
		ring->base);
	if (avail >= 0 && used >= 0)
		printf(", available %ld, used %ld", avail, used);
	printf("%s\n", ring->addr.flags & GM_VHOST_VRING_LOG ? ", logged" : "");
}

static json_t *json_ring(const struct seen *s, uint32_t n)
{
	const struct seen_ring *ring = &s->rings[n];
	long avail = index_at(s, ring, ring->addr.avail);
	long used = index_at(s, ring, ring->addr.used);

	return json_pack("{s:i, s:i, s:b, s:b, s:i, s:b, s:o, s:o, s:o, s:o, s:o}", "index", (int)n,
		"num", (int)ring->num, "started", ring->kicked, "enabled", ring->enabled, "base",
		(int)ring->base, "logged", (int)(ring->addr.flags & GM_VHOST_VRING_LOG), "desc",
		tool_json_number(ring->addr.desc), "avail", tool_json_number(ring->addr.avail),
		"used", tool_json_number(ring->addr.used), "available_index",
		avail < 0 ? json_null() : json_integer(avail), "used_index",
		used < 0 ? json_null() : json_integer(used));
}

/* ---- all ---- */

void show_text(struct seen *s)
{
	seen_log(s);
	printf("messages: %" PRIu64 " of the front-end, %" PRIu64 " of the back-end, %" PRIu64
	       " that break the specification\n",
		s->messages[0], s->messages[1], s->unknown);
	print_bits("features", feature_names, s->features);
	print_bits("protocol features", protocol_names, s->protocol);
	printf("regions: %u\n", s->nr_regions);
	for (uint32_t i = 0; i < s->nr_regions; i++)
		print_region(&s->regions[i]);
	for (uint32_t n = 0; n < SEEN_RINGS; n++) {
		if (s->rings[n].set)
			print_ring(s, n);
	}
	if (s->log_fd >= 0)
		printf("log: %" PRIu64 " bytes, %" PRIu64
		       " pages marked, %.0f pages a second anew\n",
			s->log_len, s->dirty, s->dirty_rate);
	fflush(stdout);
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
	return json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "event", "shared",
		"front_end_messages", (json_int_t)s->messages[0], "back_end_messages",
		(json_int_t)s->messages[1], "wrong_messages", (json_int_t)s->unknown, "offered",
		json_bits(feature_names, s->offered), "features",
		json_bits(feature_names, s->features), "protocol",
		json_bits(protocol_names, s->protocol), "regions", regions, "rings", rings, "log",
		s->log_fd < 0 ? json_null()
			      : json_pack("{s:I, s:I, s:f}", "len", (json_int_t)s->log_len, "dirty",
					(json_int_t)s->dirty, "dirty_per_second", s->dirty_rate));
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
