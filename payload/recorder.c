/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recorder.c - a plugin of QEMU's TCG that records which pages of its memory a guest touches. scripts/record-boot
 * builds and runs it; docs/trace-format.md says what it records and what it cannot see.
 *
 * Arguments: fd=N or mem=PATH (the file that is the guest's memory, from guest address 0 on), out=FILE, period=MICROS,
 * blur=MICROS. One vCPU; a microsecond is a thousand instructions.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"

/* ---- what we use of QEMU's interface for plugins, version 1 ---- */

#define API_VERSION 1
#define NO_REGISTERS 0
#define READS_AND_WRITES 3
#define ADD_U64 0

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;

void qemu_plugin_register_vcpu_tb_trans_cb(
	uint64_t id, void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
	void (*cb)(unsigned int vcpu, void *ctx), int registers, void *ctx);
void qemu_plugin_register_vcpu_tb_exec_inline(
	struct qemu_plugin_tb *tb, int op, void *counter, uint64_t n);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
	void (*cb)(unsigned int vcpu, uint32_t info, uint64_t vaddr, void *ctx), int registers,
	int which, void *ctx);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t id, void *ctx), void *ctx);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
bool qemu_plugin_mem_is_store(uint32_t info);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(uint32_t info, uint64_t vaddr);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *hwaddr);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *hwaddr);

#define EXPORT __attribute__((visibility("default")))

EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

int qemu_plugin_version = API_VERSION;

/* ---- what is being recorded ---- */

#define PAGE_LOG2 12
#define PER_MICRO UINT64_C(1000) /* instructions */
#define OPEN_MAX 32u
#define CACHED 256u

struct run {
	uint64_t page;
	uint64_t nr;
	uint64_t begun; /* by the clock */
	bool write;
};

/* What a virtual page was found to be. */
struct cached {
	uint64_t vpage;
	uint64_t page;
	uint64_t age;
};

struct page {
	uint32_t read; /* period in which it was last, from 1; 0: never */
	uint32_t written;
};

static struct {
	const char *memory;
	const char *out_path;
	uint64_t period; /* instructions */
	uint64_t blur;
	int fd;
	FILE *out;
	uint8_t *hva; /* of the guest's memory in QEMU */
	struct page *pages;
	uint64_t nr_pages;
	uint64_t known; /* pages that were touched */
	uint64_t clock; /* instructions */
	uint64_t period_end;
	uint32_t period_nr; /* from 1 */
	/* Only the kernel changes what user addresses are: when its code runs, @age grows. 0: it has not begun. */
	uint64_t age;
	struct cached cached[CACHED];
	struct run open[OPEN_MAX];
	uint32_t first; /* of those that are open, in a circle */
	uint32_t nr_open;
	/* Of the file. */
	struct trace_header head;
	uint64_t next;
	uint64_t stamped; /* the clock, of what is written */
	uint64_t sum;
	bool failed;
} rec = {.period = 100000 * PER_MICRO, .blur = 1000 * PER_MICRO, .fd = -1};

static void fail(const char *what)
{
	if (!rec.failed)
		fprintf(stderr, "recorder: %s\n", what);
	rec.failed = true;
}

/* ---- runs ---- */

static void write_run(const struct run *run)
{
	uint8_t buf[TRACE_RECORD_MAX];
	struct trace_record record = {.page = run->page, .nr = run->nr, .write = run->write};
	uint32_t len;

	/* Whole milliseconds: that saves more than half of the bytes. */
	if (run->begun > rec.stamped)
		record.micros = (run->begun - rec.stamped) / PER_MICRO / 1000 * 1000;
	rec.stamped += record.micros * PER_MICRO;
	len = trace_encode(buf, &record, &rec.next);
	if (fwrite(buf, len, 1, rec.out) != 1)
		fail("cannot write the trace");
	rec.head.nr_records++;
	rec.head.body_len += len;
	rec.head.touched += run->nr;
	rec.head.micros += record.micros;
}

static void close_first(void)
{
	write_run(&rec.open[rec.first]);
	rec.first = (rec.first + 1) % OPEN_MAX;
	rec.nr_open--;
}

/* Joins the page to a run that is open. A guest that copies makes two at a time. */
static void add_touch(uint64_t page, bool write)
{
	while (rec.nr_open && rec.clock - rec.open[rec.first].begun > rec.blur)
		close_first();
	for (uint32_t i = 0; i < rec.nr_open; i++) {
		struct run *run = &rec.open[(rec.first + i) % OPEN_MAX];

		if (run->write == write && run->page + run->nr == page) {
			run->nr++;
			return;
		}
	}
	if (rec.nr_open == OPEN_MAX)
		close_first();
	rec.open[(rec.first + rec.nr_open++) % OPEN_MAX] =
		(struct run){.page = page, .nr = 1, .begun = rec.clock, .write = write};
}

/* ---- touches ---- */

static void touch(uint64_t page, bool write);

/* Pages that are there and that the processor has not touched were written by a device. */
static void find_devices_writes(void)
{
	uint64_t end = rec.nr_pages << PAGE_LOG2;
	off_t at = 0;

	while ((uint64_t)at < end && (at = lseek(rec.fd, at, SEEK_DATA)) >= 0) {
		off_t stop = lseek(rec.fd, at, SEEK_HOLE);

		if (stop < 0)
			break;
		for (uint64_t page = (uint64_t)at >> PAGE_LOG2; page < (uint64_t)stop >> PAGE_LOG2;
			page++) {
			if (!rec.pages[page].read && !rec.pages[page].written)
				touch(page, true);
		}
		at = stop;
	}
}

static void look_for_devices(void)
{
	struct stat st;

	if (fstat(rec.fd, &st) == 0 && (uint64_t)st.st_blocks / 8 > rec.known)
		find_devices_writes();
}

static uint32_t period_now(void)
{
	if (rec.clock >= rec.period_end) {
		rec.period_nr = (uint32_t)(rec.clock / rec.period) + 1;
		rec.period_end = rec.period_nr * rec.period;
	}
	return rec.period_nr;
}

static void touch(uint64_t page, bool write)
{
	uint32_t period = period_now();
	struct page *p = &rec.pages[page];
	bool is_new = !p->read && !p->written;

	if (p->written == period || (!write && p->read == period))
		return;
	*(write ? &p->written : &p->read) = period;
	add_touch(page, write);
	if (is_new)
		rec.known++;
}

static void on_touch(uint64_t page, bool write)
{
	bool is_new = !rec.pages[page].read && !rec.pages[page].written;

	touch(page, write);
	if (is_new)
		look_for_devices();
}

/* nr_pages: no memory. */
static uint64_t ask_page(uint32_t info, uint64_t vaddr)
{
	struct qemu_plugin_hwaddr *hwaddr = qemu_plugin_get_hwaddr(info, vaddr);
	uint64_t page;

	if (!hwaddr || qemu_plugin_hwaddr_is_io(hwaddr))
		return rec.nr_pages;
	page = qemu_plugin_hwaddr_phys_addr(hwaddr) >> PAGE_LOG2;
	return page < rec.nr_pages ? page : rec.nr_pages;
}

static bool is_kernels(uint64_t vaddr)
{
	return vaddr >> 63;
}

static void on_access(unsigned int vcpu, uint32_t info, uint64_t vaddr, void *ctx)
{
	uint64_t vpage = vaddr >> PAGE_LOG2;
	struct cached *c = &rec.cached[vpage % CACHED];
	uint64_t page;

	(void)vcpu;
	(void)ctx;
	if (rec.age && c->age == rec.age && c->vpage == vpage) {
		page = c->page;
	} else {
		page = ask_page(info, vaddr);
		*c = (struct cached){vpage, page, is_kernels(vaddr) ? 0 : rec.age};
	}
	if (page < rec.nr_pages)
		on_touch(page, qemu_plugin_mem_is_store(info));
}

/* @ctx: twice the page, and 1 for the kernel's. */
static void on_execution(unsigned int vcpu, void *ctx)
{
	uintptr_t code = (uintptr_t)ctx;

	(void)vcpu;
	rec.age += code & 1;
	on_touch(code >> 1, false);
}

/* ---- code ---- */

/* Where QEMU has mapped the file. */
static uint8_t *find_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uint8_t *found = NULL;
	struct stat st;
	char line[512];

	if (!maps || fstat(rec.fd, &st))
		return NULL;
	while (!found && fgets(line, sizeof(line), maps)) {
		unsigned long long start;
		unsigned long long offset;
		unsigned long long inode;

		if (sscanf(line, "%llx-%*x %*s %llx %*s %llu", &start, &offset, &inode) == 3 &&
			inode == st.st_ino && offset == 0)
			found = (uint8_t *)(uintptr_t)start; // NOLINT(performance-no-int-to-ptr)
	}
	fclose(maps);
	return found;
}

/* The page of an instruction's byte, or nr_pages: a ROM. */
static uint64_t page_of(const uint8_t *haddr)
{
	uint64_t off = (uintptr_t)haddr - (uintptr_t)rec.hva;

	return haddr && haddr >= rec.hva && off >> PAGE_LOG2 < rec.nr_pages ? off >> PAGE_LOG2
									    : rec.nr_pages;
}

static void on_code_page(struct qemu_plugin_tb *tb, uint64_t page)
{
	uintptr_t code = page << 1 | is_kernels(qemu_plugin_tb_vaddr(tb));

	on_touch(page, false);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_execution, NO_REGISTERS,
		(void *)code); // NOLINT(performance-no-int-to-ptr)
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t nr = qemu_plugin_tb_n_insns(tb);
	uint64_t last = rec.nr_pages;

	(void)id;
	if (!rec.hva)
		rec.hva = find_memory();
	if (!rec.hva)
		fail("QEMU has not mapped the file");
	qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &rec.clock, nr);
	for (size_t i = 0; i < nr && !rec.failed; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t page = page_of(qemu_plugin_insn_haddr(insn));

		if (page < rec.nr_pages && page != last)
			on_code_page(tb, page);
		last = page;
		qemu_plugin_register_vcpu_mem_cb(
			insn, on_access, NO_REGISTERS, READS_AND_WRITES, NULL);
	}
}

/* ---- life ---- */

static void put_le(uint8_t *at, uint32_t bytes, uint64_t value)
{
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static void write_header(const uint8_t *body)
{
	uint8_t head[TRACE_HEADER_LEN] = {0};

	put_le(head, 8, TRACE_MAGIC);
	put_le(head + 8, 4, TRACE_VERSION);
	put_le(head + 12, 4, PAGE_LOG2);
	put_le(head + 16, 8, rec.nr_pages);
	put_le(head + 24, 8, rec.head.nr_records);
	put_le(head + 32, 8, rec.head.body_len);
	put_le(head + 40, 8, rec.head.touched);
	put_le(head + 48, 8, rec.head.micros);
	put_le(head + 56, 8, trace_checksum(body, rec.head.body_len));
	rewind(rec.out);
	if (fwrite(head, sizeof(head), 1, rec.out) != 1)
		fail("cannot write the trace");
}

static void on_exit_of_qemu(uint64_t id, void *ctx)
{
	uint8_t *body = malloc(rec.head.body_len + OPEN_MAX * TRACE_RECORD_MAX);

	(void)id;
	(void)ctx;
	look_for_devices();
	while (rec.nr_open)
		close_first();
	if (!body || fflush(rec.out) || fseek(rec.out, TRACE_HEADER_LEN, SEEK_SET) ||
		fread(body, 1, rec.head.body_len, rec.out) != rec.head.body_len)
		fail("cannot read back the trace");
	else
		write_header(body);
	free(body);
	if (fclose(rec.out) || rec.failed)
		unlink(rec.out_path);
	fprintf(stderr, "recorder: %llu pages, %llu instructions\n", (unsigned long long)rec.known,
		(unsigned long long)rec.clock);
}

static bool take_argument(char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return false;
	*value++ = '\0';
	if (strcmp(word, "mem") == 0)
		rec.memory = value;
	else if (strcmp(word, "out") == 0)
		rec.out_path = value;
	else if (strcmp(word, "period") == 0)
		rec.period = strtoull(value, NULL, 10) * PER_MICRO;
	else if (strcmp(word, "blur") == 0)
		rec.blur = strtoull(value, NULL, 10) * PER_MICRO;
	else
		return false;
	return true;
}

static bool open_files(void)
{
	static const uint8_t head[TRACE_HEADER_LEN];
	struct stat st;

	rec.fd = open(rec.memory, O_RDONLY | O_CLOEXEC);
	if (rec.fd < 0 || fstat(rec.fd, &st) || st.st_size == 0)
		return false;
	rec.nr_pages = (uint64_t)st.st_size >> PAGE_LOG2;
	rec.pages = calloc(rec.nr_pages, sizeof(*rec.pages));
	rec.out = fopen(rec.out_path, "w+e");
	return rec.pages && rec.out && fwrite(head, sizeof(head), 1, rec.out) == 1;
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!take_argument(argv[i])) {
			fprintf(stderr, "recorder: what is '%s'?\n", argv[i]);
			return -1;
		}
	}
	if (!rec.memory || !rec.out_path || !rec.period || !open_files()) {
		fprintf(stderr, "recorder: needs mem=FILE, out=FILE, period=MICROS\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
	return 0;
}
