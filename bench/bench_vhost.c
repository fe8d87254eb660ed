/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_vhost.c - "guestmem blk" and qemu-storage-daemon's vhost-user-blk export of the same file, driven by the same
 * front-end over a ring: time and the back-end's processor time for a request.
 *
 * usage: bench_vhost [--json FILE]
 *
 * The front-end waits for the call's eventfd, as a guest for its interrupt. qemu-storage-daemon is given what makes it
 * fast: io_uring and a thread of its own for the ring. Both read through the page cache, or both past it.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define FILE_LEN (UINT64_C(256) << 20)
#define MEMORY (UINT64_C(64) << 20)
#define NR 128u
#define BUFFERS (UINT64_C(8) << 20)
#define DEPTH_MAX 32u
#define F_INDIRECT (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)

enum { OURS, THEIRS, SIDES };

/* A back-end, and a ring to it. */
struct side {
	const char *name;
	char path[128];
	pid_t pid;
	struct gm_vhost_frontend *frontend;
	struct gm_virtq_opts opts;
	struct gm_virtq_driver *driver;
	int kick;
	int call;
	uint64_t buffers;
};

struct load {
	struct side *side;
	uint32_t depth;
	uint32_t len;
	bool write;
	uint64_t busy; /* ns of the back-end's processor time, since the bench began */
	uint64_t done; /* requests */
};

struct slot {
	struct gm_chain_elem elems[3];
	struct load *load;
};

static struct gm_space *space;
static struct gm_reader *reader;
static struct slot slots[DEPTH_MAX];
static uint64_t place;
static char dir[64] = "/var/tmp/bench-vhost-XXXXXX";
static char file[96];

static void must(bool what)
{
	if (!what)
		abort();
}

/* ---- processor time ---- */

/* Of all threads that a process has, in ns. */
static uint64_t time_of(pid_t pid)
{
	char path[64];
	uint64_t sum = 0;
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	must(tasks);
	while ((entry = readdir(tasks))) {
		unsigned long long ns = 0;
		FILE *stat;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", (int)pid,
			entry->d_name);
		stat = fopen(path, "r");
		if (stat && fscanf(stat, "%llu", &ns) == 1)
			sum += ns;
		if (stat)
			fclose(stat);
	}
	closedir(tasks);
	return sum;
}

/* ---- requests ---- */

static void add(const struct load *l, const struct gm_view *view, struct slot *slot)
{
	struct side *s = l->side;
	uint64_t nr = (uint64_t)(slot - slots);
	uint64_t at = s->buffers + nr * (1u << 20);
	uint64_t head_at = s->buffers - (512u << 10) + nr * 64; /* behind the ring */
	uint64_t head[2];

	place += 4096 * 97;
	head[0] = htole64(l->write);
	head[1] = htole64((place % (FILE_LEN - l->len) & ~UINT64_C(4095)) / 512);
	must(gm_write(view, head_at, head, 16, NULL) == 0);
	slot->elems[0] = (struct gm_chain_elem){.gpa = head_at, .len = 16};
	slot->elems[1] = (struct gm_chain_elem){
		.gpa = at, .len = l->len, .flags = l->write ? 0 : GM_CHAIN_WRITE};
	slot->elems[2] =
		(struct gm_chain_elem){.gpa = head_at + 32, .len = 1, .flags = GM_CHAIN_WRITE};
	must(gm_virtq_driver_add(s->driver, view, slot->elems, 3, 0, slot) == 0);
}

/* Kicks if the device wants it. */
static void show(const struct side *s, const struct gm_view *view)
{
	uint64_t one = 1;
	int rc = gm_virtq_driver_show(s->driver, view);

	must(rc >= 0);
	if (rc > 0)
		must(write(s->kick, &one, 8) == 8);
}

static uint64_t take(struct load *l, const struct gm_view *view, uint64_t *made, uint64_t iters)
{
	uint64_t back = 0;
	uint32_t len;
	void *token;

	while (gm_virtq_driver_take(l->side->driver, view, &token, &len, NULL) > 0) {
		back++;
		if (*made < iters) {
			add(l, view, token);
			(*made)++;
		}
	}
	return back;
}

static void run_load(void *ctx, uint64_t iters)
{
	struct load *l = ctx;
	struct side *s = l->side;
	const struct gm_view *view = gm_reader_enter(reader);
	uint64_t before = time_of(s->pid);
	uint64_t made = 0;
	uint64_t back = 0;

	for (; made < l->depth && made < iters; made++)
		add(l, view, &slots[made]);
	show(s, view);
	while (back < iters) {
		uint64_t got = take(l, view, &made, iters);
		uint64_t count;

		back += got;
		if (got) {
			show(s, view);
			continue;
		}
		/* 1: something has come meanwhile. */
		if (gm_virtq_driver_calls(s->driver, view, true) > 0)
			continue;
		/* A back-end may have made it one that does not block. */
		must(poll(&(struct pollfd){.fd = s->call, .events = POLLIN}, 1, 10000) == 1);
		must(read(s->call, &count, 8) == 8);
	}
	l->busy += time_of(s->pid) - before;
	l->done += iters;
	gm_reader_leave(reader);
}

/* ---- set-up ---- */

static void start(struct side *s, bool direct)
{
	char text[2][256];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	snprintf(s->path, sizeof(s->path), "%s/%s%d", dir, s->name, direct);
	snprintf(text[0], sizeof(text[0]),
		"driver=file,node-name=f,filename=%s,aio=io_uring,cache.direct=%s", file,
		direct ? "on" : "off");
	snprintf(text[1], sizeof(text[1]),
		"type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=%s,writable=on,"
		"iothread=t",
		s->path);
	s->pid = fork();
	must(s->pid >= 0);
	if (s->pid == 0) {
		dup2(null, 1);
		if (s->name[0] == 'g')
			execlp("guestmem", "guestmem", "blk", "--socket-path", s->path,
				"--blk-file", file, "--queues", "1", direct ? "--direct" : NULL,
				NULL);
		else
			execlp("qemu-storage-daemon", "qemu-storage-daemon", "--object",
				"iothread,id=t", "--blockdev", text[0], "--export", text[1], NULL);
		_exit(127);
	}
	close(null);
}

static void connect_to(struct side *s)
{
	const struct timespec pause = {0, 20000000};
	struct gm_vhost_frontend_opts opts = {
		.size = sizeof(opts),
		.path = s->path,
		.features = F_INDIRECT | F_EVENT_IDX | F_VERSION_1 | GM_VIRTIO_BLK_F_FLUSH,
		.needed = F_EVENT_IDX | F_VERSION_1,
	};
	struct gm_error err = {0};
	int rc = -1;

	for (int i = 0; i < 250 && rc; i++) {
		rc = gm_vhost_frontend_create(&opts, &s->frontend, &err);
		if (rc)
			nanosleep(&pause, NULL);
	}
	bench_need(rc == 0, s->name, err.text);
	bench_need(gm_vhost_frontend_attach(s->frontend, space, &err) == 0, "memory", err.text);
}

static void make_ring(struct side *s, uint64_t at)
{
	struct gm_vhost_frontend_ring vring = {.size = sizeof(vring), .num = NR, .error = -1};
	struct gm_error err = {0};

	s->opts = (struct gm_virtq_opts){.size = sizeof(s->opts),
		.desc = at,
		.driver = at + (64u << 10),
		.device = at + (128u << 10),
		.nr = NR,
		.flags = GM_VIRTQ_EVENT};
	s->buffers = at + (1u << 20);
	s->kick = eventfd(0, EFD_CLOEXEC);
	s->call = eventfd(0, EFD_CLOEXEC);
	vring.desc = s->opts.desc;
	vring.avail = s->opts.driver;
	vring.used = s->opts.device;
	vring.kick = s->kick;
	vring.call = s->call;
	bench_need(gm_virtq_driver_create(&s->opts, gm_reader_enter(reader), &s->driver, &err) == 0,
		"driver", err.text);
	gm_reader_leave(reader);
	bench_need(
		gm_vhost_frontend_ring_start(s->frontend, 0, &vring, &err) == 0, s->name, err.text);
}

static void make_file(void)
{
	static uint8_t bytes[1u << 20];
	int fd;

	must(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/disk", dir);
	fd = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	bench_need(fd >= 0, "a file in", dir);
	memset(bytes, 0x5a, sizeof(bytes));
	for (uint64_t at = 0; at < FILE_LEN; at += sizeof(bytes))
		must(pwrite(fd, bytes, sizeof(bytes), (off_t)at) == sizeof(bytes));
	must(fsync(fd) == 0);
	close(fd);
}

static void make_memory(void)
{
	struct gm_block_opts backing = {
		.size = sizeof(backing), .len = 2 * MEMORY, .flags = GM_BLOCK_SHARE};
	struct gm_region_desc desc = {.size = sizeof(desc), .backing = &backing};
	struct gm_error err = {0};

	bench_need(gm_space_build(NULL, &desc, 1, &space, &err) == 0, "memory", err.text);
	bench_need(gm_reader_create(space, "driver", &reader, &err) == 0, "reader", err.text);
}

static void stop(struct side *s)
{
	gm_vhost_frontend_ring_stop(s->frontend, 0, NULL, NULL);
	gm_vhost_frontend_destroy(s->frontend, NULL);
	kill(s->pid, SIGTERM);
	waitpid(s->pid, NULL, 0);
	unlink(s->path);
	gm_virtq_driver_destroy(s->driver);
	close(s->kick);
	close(s->call);
}

static const struct {
	const char *name;
	const char *busy;
	uint32_t depth;
	uint32_t len;
	bool write;
	uint64_t iters;
} kinds[] = {
	{"read 4 KiB, depth 1", "processor time, 4 KiB, depth 1", 1, 4096, false, 100},
	{"read 4 KiB, depth 32", "processor time, 4 KiB, depth 32", 32, 4096, false, 640},
	{"write 4 KiB, depth 32", "processor time, writes", 32, 4096, true, 320},
	{"read 1 MiB, depth 4", "processor time, 1 MiB", 4, 1u << 20, false, 16},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

int main(int argc, char **argv)
{
	static struct side sides[2][SIDES] = {
		{{.name = "guestmem"}, {.name = "qsd"}}, {{.name = "guestmem"}, {.name = "qsd"}}};
	static struct load loads[2][KINDS][SIDES];
	static struct bench_row rows[2][KINDS][2];
	static char names[2][KINDS][2][64];

	bench_begin(argc, argv);
	make_file();
	make_memory();
	for (int d = 0; d < 2; d++) {
		for (int s = 0; s < SIDES; s++) {
			start(&sides[d][s], d);
			connect_to(&sides[d][s]);
			make_ring(&sides[d][s], (uint64_t)s * MEMORY);
		}
		for (size_t k = 0; k < KINDS; k++) {
			struct load *l = loads[d][k];

			for (int s = 0; s < SIDES; s++)
				l[s] = (struct load){&sides[d][s], kinds[k].depth, kinds[k].len,
					kinds[k].write, 0, 0};
			snprintf(names[d][k][0], 64, "vhost: %s%s", d ? "direct " : "",
				kinds[k].name);
			snprintf(names[d][k][1], 64, "vhost: %s%s", d ? "direct, " : "",
				kinds[k].busy);
			rows[d][k][0] = (struct bench_row){.name = names[d][k][0],
				.ours = run_load,
				.ours_ctx = &l[OURS],
				.against = "qemu-storage-daemon",
				.other = run_load,
				.other_ctx = &l[THEIRS],
				.goal = 1.0,
				.iters = d ? kinds[k].iters / 4 + 4 : kinds[k].iters};
			bench_run(&rows[d][k][0]);
			rows[d][k][1] = (struct bench_row){.name = names[d][k][1],
				.against = "times qemu-storage-daemon's",
				.limit_ns = 1.0};
			bench_fact(&rows[d][k][1],
				(double)l[OURS].busy / (double)l[OURS].done /
					((double)l[THEIRS].busy / (double)l[THEIRS].done));
		}
		for (int s = 0; s < SIDES; s++)
			stop(&sides[d][s]);
	}
	unlink(file);
	rmdir(dir);
	return bench_end();
}
