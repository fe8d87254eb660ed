/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_kvm.c - the KVM adapter against KVM's own calls: harvests of 1 GiB, and a slot that comes and goes; a watch
 * beside KVM against the kernel's scan.
 *
 * usage: bench_kvm [--json FILE]
 *
 * Two virtual machines, one with the adapter and one by hand; neither runs. Pages are written by KVM itself,
 * which puts the guest's wall clock where a register says: both sides do the same.
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define LEN (UINT64_C(1) << 30)
#define WRITES 128u
#define WALL_CLOCK 0x4b564d00u
#define HOT (UINT64_C(2) << 30)
#define HOT_LEN (UINT64_C(2) << 20)

struct machine {
	int vm;
	int vcpu;
	struct kvm_msrs *writes;
};

static struct machine with;
static struct machine by_hand;
static struct gm_space *space;
static struct gm_kvm *kvm;
static struct gm_log *log_;
static struct gm_block *hot;
static int hot_fd;
static uint8_t *memory;
static uint64_t bits[LEN / 4096 / 64];

static void need(int rc, const char *what)
{
	if (rc >= 0)
		return;
	perror(what);
	exit(1);
}

static void need_ok(int rc, const struct gm_error *err)
{
	if (!rc)
		return;
	fprintf(stderr, "bench: %s\n", err->text);
	exit(1);
}

/* Pages all over 1 GiB. */
static struct kvm_msrs *list_writes(void)
{
	struct kvm_msrs *list = calloc(1, sizeof(*list) + WRITES * sizeof(list->entries[0]));

	list->nmsrs = WRITES;
	for (uint32_t i = 0; i < WRITES; i++)
		list->entries[i] = (struct kvm_msr_entry){
			.index = WALL_CLOCK, .data = 4096 + (uint64_t)i * (LEN / WRITES)};
	return list;
}

static void write_pages(const struct machine *machine)
{
	if (ioctl(machine->vcpu, KVM_SET_MSRS, machine->writes) != (int)WRITES)
		abort();
}

static void set_slot(uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t len, void *hva)
{
	struct kvm_userspace_memory_region region = {.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)hva};

	need(ioctl(by_hand.vm, KVM_SET_USER_MEMORY_REGION, &region), "slot");
}

/* ---- rows ---- */

static void harvest(void *ctx, uint64_t iters)
{
	bool write = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		uint64_t bytes;

		if (write)
			write_pages(&with);
		if (gm_kvm_harvest(kvm, &bytes, NULL) || (write && bytes < WRITES * 4096))
			abort();
	}
}

static void harvest_by_hand(void *ctx, uint64_t iters)
{
	struct kvm_dirty_log get = {.dirty_bitmap = bits};
	struct kvm_clear_dirty_log clear = {.num_pages = LEN / 4096, .dirty_bitmap = bits};

	/* Somebody has to look at the words; here it is KVM, when it clears. */
	for (uint64_t i = 0; i < iters; i++) {
		if (ctx)
			write_pages(&by_hand);
		if (ioctl(by_hand.vm, KVM_GET_DIRTY_LOG, &get) ||
			ioctl(by_hand.vm, KVM_CLEAR_DIRTY_LOG, &clear))
			abort();
	}
}

/* ---- asynchronous write protection ---- */

/* linux/fs.h of Linux 6.7; the 6.1 headers have it not. */
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any,
		ret;
};

#define SCAN _IOWR('f', 16, struct scan)
#define SCAN_PROTECT 1u
#define SCAN_WRITTEN 2u
#define FEATURE_ASYNC (UINT64_C(1) << 15)
#define FEATURE_UNPOPULATED (UINT64_C(1) << 13)

static struct gm_watch *watch;
static int pagemap;

static void watched(void *ctx, uint64_t iters)
{
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t bytes;

		if (ctx)
			write_pages(&with);
		if (gm_watch_harvest(watch, &bytes, NULL) || (ctx && bytes < WRITES * 4096))
			abort();
	}
}

static void watched_by_hand(void *ctx, uint64_t iters)
{
	static uint64_t found[1024][3];
	uint64_t first = (uintptr_t)memory;

	for (uint64_t i = 0; i < iters; i++) {
		struct scan scan = {.size = sizeof(scan),
			.flags = SCAN_PROTECT,
			.start = first,
			.end = first + LEN,
			.vec = (uintptr_t)found,
			.vec_len = 1024,
			.mask = SCAN_WRITTEN,
			.ret = SCAN_WRITTEN};

		if (ctx)
			write_pages(&by_hand);
		if (ioctl(pagemap, SCAN, &scan) < (ctx ? (int)WRITES : 0))
			abort();
	}
}

static void protect_by_hand(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_ASYNC | FEATURE_UNPOPULATED};
	struct uffdio_register reg = {
		.range = {(uintptr_t)memory, LEN}, .mode = UFFDIO_REGISTER_MODE_WP};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	need(fd, "userfaultfd");
	need(ioctl(fd, UFFDIO_API, &api), "UFFDIO_API");
	need(ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	need(pagemap, "pagemap");
	watched_by_hand(NULL, 1);
}

static void write_only(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++)
		write_pages(&by_hand);
}

static void plug(void *ctx, uint64_t iters)
{
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = HOT, .block = hot};

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t id;

		if (gm_space_add(space, &desc, &id, NULL) || gm_space_remove(space, id, NULL))
			abort();
	}
}

static void plug_by_hand(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		void *at = mmap(NULL, HOT_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, hot_fd, 0);

		if (at == MAP_FAILED)
			abort();
		set_slot(1, 0, HOT, HOT_LEN, at);
		set_slot(1, 0, HOT, 0, at);
		munmap(at, HOT_LEN);
	}
}

static const struct bench_row rows[] = {
	{"harvest 1 GiB, nothing written", harvest, NULL, "get and clear by KVM", harvest_by_hand,
		NULL, 0, 1.1, NULL},
	{"write 128 pages, harvest 1 GiB", harvest, bits, "the same, get and clear",
		harvest_by_hand, bits, 0, 1.1, NULL},
	{"write 128 pages, get and clear", harvest_by_hand, bits, "write them only", write_only,
		NULL, 0, 0, NULL},
};

#define NR_ROWS (sizeof(rows) / sizeof(rows[0]))

/* Without logging: a slot that is logged is moved before it goes. */
static const struct bench_row slot_row = {"slot of 2 MiB comes and goes", plug, NULL,
	"mmap, KVM twice, munmap", plug_by_hand, NULL, 0, 1.5, NULL};

static const struct bench_row watch_rows[] = {
	{"watch 1 GiB, nothing written", watched, NULL, "PAGEMAP_SCAN that protects",
		watched_by_hand, NULL, 0, 1.1, NULL},
	{"write 128 pages, watch 1 GiB", watched, bits, "the same, PAGEMAP_SCAN", watched_by_hand,
		bits, 0, 1.1, NULL},
};

/* ---- machines ---- */

static void make(int dev, struct machine *machine)
{
	machine->vm = ioctl(dev, KVM_CREATE_VM, 0UL);
	need(machine->vm, "KVM_CREATE_VM");
	machine->vcpu = ioctl(machine->vm, KVM_CREATE_VCPU, 0UL);
	need(machine->vcpu, "KVM_CREATE_VCPU");
	machine->writes = list_writes();
}

static void make_ours(void)
{
	struct gm_block_opts backing = {.size = sizeof(backing), .len = LEN};
	struct gm_region_desc desc = {.size = sizeof(desc), .backing = &backing};
	struct gm_block_opts file = {
		.size = sizeof(file), .len = HOT_LEN, .backing = GM_BACKING_MEMFD};
	struct gm_kvm_opts opts = {.size = sizeof(opts), .vm_fd = with.vm};
	struct gm_space_opts small = {.size = sizeof(small), .gpa_limit = UINT64_C(4) << 30};
	struct gm_block_info info = {.size = sizeof(info)};
	struct gm_error err;

	need_ok(gm_space_create(&small, &space, &err), &err);
	need_ok(gm_space_add(space, &desc, NULL, &err), &err);
	need_ok(gm_block_create(&file, &hot, &err), &err);
	gm_block_info(hot, &info);
	hot_fd = info.fd;
	need_ok(gm_kvm_create(space, &opts, &kvm, &err), &err);
	need_ok(gm_log_create(space, NULL, &log_, &err), &err);
	need_ok(gm_kvm_track(kvm, GM_KVM_TRACK_BITMAP, &err), &err);
}

static void make_by_hand(void)
{
	struct kvm_enable_cap manual = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {1}};

	memory = aligned_alloc(HOT_LEN, LEN);
	if (!memory)
		abort();
	need(ioctl(by_hand.vm, KVM_ENABLE_CAP, &manual), "KVM_ENABLE_CAP");
	set_slot(0, KVM_MEM_LOG_DIRTY_PAGES, 0, LEN, memory);
}

static void skip_all(void)
{
	static struct bench_row skipped[NR_ROWS];

	for (size_t i = 0; i < NR_ROWS; i++) {
		skipped[i] = rows[i];
		skipped[i].skip = "no /dev/kvm";
		bench_run(&skipped[i]);
	}
}

int main(int argc, char **argv)
{
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	bench_begin(argc, argv);
	if (dev < 0) {
		skip_all();
		return bench_end();
	}
	make(dev, &with);
	make(dev, &by_hand);
	make_ours();
	make_by_hand();
	bench_rows(rows, NR_ROWS);
	need(gm_kvm_track(kvm, GM_KVM_TRACK_NONE, NULL), "track");
	bench_run(&slot_row);
	set_slot(0, 0, 0, LEN, memory);
	protect_by_hand();
	need(gm_watch_create(space, &watch, NULL), "watch");
	bench_rows(watch_rows, sizeof(watch_rows) / sizeof(watch_rows[0]));
	gm_watch_destroy(watch, NULL);
	gm_kvm_destroy(kvm, NULL);
	gm_log_destroy(log_, NULL);
	gm_block_put(hot);
	gm_space_destroy(space);
	free(with.writes);
	free(by_hand.writes);
	free(memory);
	close(dev);
	return bench_end();
}
