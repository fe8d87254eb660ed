/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_loader.c - bytes as a file that is loaded into a small guest: as a kernel, as a RAM disk beside it,
 * with what the guest is told. Devices hear nothing; what is said to be loaded is there. The inputs are
 * those of fuzz_image.c.
 */
#include <errno.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB(n) ((uint64_t)(n) << 20)

static struct gm_reader *reader;
static int file;

static void must(bool what)
{
	if (!what)
		abort();
}

static int on_read(void *ctx, uint64_t off, uint32_t size, uint64_t *ret)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)ret;
	abort();
}

static int on_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)value;
	abort();
}

/* RAM in two regions, what is not mapped, holes, a ROM and a device. */
static void start(void)
{
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = UINT64_C(1) << 33};
	const struct gm_block_opts ram = {
		.size = sizeof(ram), .len = MIB(2), .reserve = GM_RESERVE_NONE};
	const struct gm_block_opts far = {.size = sizeof(far),
		.len = MIB(1),
		.backing = GM_BACKING_MEMFD,
		.flags = GM_BLOCK_UNMAPPED};
	const struct gm_device_ops device = {
		.size = sizeof(device), .read = on_read, .write = on_write};
	const struct gm_region_desc descs[] = {
		{.size = sizeof(descs[0]), .gpa = 0, .backing = &ram},
		{.size = sizeof(descs[0]), .gpa = MIB(2), .kind = GM_REGION_ROM, .backing = &ram},
		{.size = sizeof(descs[0]), .gpa = MIB(16), .backing = &ram},
		{.size = sizeof(descs[0]), .gpa = MIB(18), .backing = &far},
		{.size = sizeof(descs[0]),
			.gpa = MIB(19),
			.len = MIB(1),
			.kind = GM_REGION_MMIO,
			.device = &device},
		{.size = sizeof(descs[0]), .gpa = UINT64_C(1) << 32, .backing = &ram},
	};
	struct gm_space *space;

	must(gm_space_build(&opts, descs, sizeof(descs) / sizeof(descs[0]), &space, NULL) == 0);
	must(gm_reader_create(space, "fuzz", &reader, NULL) == 0);
	file = memfd_create("fuzz", MFD_CLOEXEC);
	must(file >= 0);
}

static void check_bytes(uint64_t gpa, const uint8_t *data, size_t len)
{
	const struct gm_view *view = gm_reader_enter(reader);
	int order = 1;

	must(gm_compare(view, gpa, data, len, &order, NULL) == 0 && order == 0);
	gm_reader_leave(reader);
}

/* An error says what it is about. */
static bool accepted(int rc, const struct gm_error *err)
{
	if (rc == 0)
		return true;
	must(rc < 0 && err->code == rc && err->text[0]);
	return false;
}

static void tell(const struct gm_kernel *kernel, const struct gm_loaded *initrd)
{
	const struct gm_memmap_entry map = {0, MIB(2) - 1, GM_MEMMAP_RAM, 0, 0, 0};
	struct gm_boot_info info = {.size = sizeof(info),
		.kernel = kernel,
		.initrd = *initrd,
		.map = &map,
		.nr_map = 1};
	static uint8_t page[GM_BOOT_PARAMS_LEN];
	struct gm_error err;
	size_t needed;

	accepted(gm_load_cmdline(reader, kernel, 0x20000, "quiet", &info.cmdline, &err), &err);
	if (accepted(gm_boot_params(&info, page, sizeof(page), &err), &err))
		must(page[0x1e8] == 1 && page[0x210] == 0xff && page[0x1ef] == 0);
	if (accepted(gm_pvh_info(&info, 0x6000, page, sizeof(page), &needed, &err), &err))
		must(needed == 56 + (initrd->len ? 32 : 0) + 24);
}

static void load(const struct gm_load_opts *opts, const uint8_t *data, size_t size)
{
	struct gm_kernel kernel = {.size = sizeof(kernel)};
	struct gm_loaded initrd = {0, 0};
	struct gm_error err;

	if (!accepted(gm_load_kernel(reader, file, opts, &kernel, &err), &err))
		return;
	must(kernel.first <= kernel.last);
	if (kernel.format == GM_KERNEL_BZIMAGE) {
		uint64_t off = (uint64_t)(data[0x1f1] ? data[0x1f1] + 1 : 5) * 512;

		check_bytes(kernel.first, data + off, size - off);
	} else if (kernel.format != GM_KERNEL_ELF) {
		check_bytes(kernel.first, data, size);
	}
	if (accepted(gm_load_initrd(reader, file, &kernel, 0, &initrd, &err), &err)) {
		check_bytes(initrd.gpa, data, size);
		must(initrd.gpa + (size - 1) < kernel.first || initrd.gpa > kernel.last);
	}
	tell(&kernel, &initrd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_load_opts opts = {.size = sizeof(opts), .flags = GM_LOAD_AT};
	struct gm_kernel kernel = {.size = sizeof(kernel)};
	struct gm_error err;

	if (!reader)
		start();
	must(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
	accepted(gm_kernel_probe(file, &kernel, &err), &err);
	load(NULL, data, size);
	if (size >= 8)
		memcpy(&opts.addr, data + size - 8, sizeof(opts.addr));
	load(&opts, data, size);
	return 0;
}
