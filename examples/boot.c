/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot.c - make the memory of an x86 guest as it is when Linux begins: kernel, initial RAM disk, command
 * line, zero page, PVH information. "boot MEMORY KERNEL INITRD CMDLINE" writes it to the file MEMORY and
 * prints where the machine begins.
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <unistd.h>

#define RAM_LEN (512 << 20)
#define CMDLINE 0x20000
#define ZERO_PAGE 0x7000
#define PVH_INFO 0x6000

static struct gm_error err;

static int fail(const char *what)
{
	fprintf(stderr, "boot: %s\n", what);
	return 1;
}

/* What the guest is told, at the addresses where it looks for that. */
static int tell(struct gm_reader *reader, const struct gm_boot_info *info)
{
	uint8_t page[GM_BOOT_PARAMS_LEN];
	uint8_t pvh[512];
	size_t len;
	int rc = gm_boot_params(info, page, sizeof(page), &err);

	if (!rc)
		rc = gm_pvh_info(info, PVH_INFO, pvh, sizeof(pvh), &len, &err);
	if (rc)
		return rc;
	const struct gm_view *view = gm_reader_enter(reader);
	rc = gm_write(view, ZERO_PAGE, page, sizeof(page), NULL);
	if (!rc)
		rc = gm_write(view, PVH_INFO, pvh, len, NULL);
	gm_reader_leave(reader);
	return rc;
}

int main(int argc, char **argv)
{
	struct gm_block_opts file = {
		.size = sizeof(file), .backing = GM_BACKING_FD, .len = RAM_LEN};
	struct gm_region_desc ram = {.size = sizeof(ram), .gpa = 0, .backing = &file};
	struct gm_memmap_entry map[] = {{0, 0x9ffff, GM_MEMMAP_RAM, 0, 0, 0},
		{0x100000, RAM_LEN - 1, GM_MEMMAP_RAM, 0, 0, 0}};
	struct gm_kernel kernel = {.size = sizeof(kernel)};
	struct gm_boot_info info = {
		.size = sizeof(info), .kernel = &kernel, .map = map, .nr_map = 2};
	struct gm_space *space;
	struct gm_reader *reader;
	int kernel_fd = argc == 5 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	int initrd_fd = argc == 5 ? open(argv[3], O_RDONLY | O_CLOEXEC) : -1;

	if (argc == 5)
		file.fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (kernel_fd < 0 || initrd_fd < 0 || file.fd < 0 || ftruncate(file.fd, RAM_LEN))
		return fail("usage: boot MEMORY KERNEL INITRD CMDLINE");
	if (gm_space_build(NULL, &ram, 1, &space, &err) ||
		gm_reader_create(space, "boot", &reader, &err) ||
		gm_load_kernel(reader, kernel_fd, NULL, &kernel, &err) ||
		gm_load_initrd(reader, initrd_fd, &kernel, 0, &info.initrd, &err) ||
		gm_load_cmdline(reader, &kernel, CMDLINE, argv[4], &info.cmdline, &err) ||
		tell(reader, &info))
		return fail(err.text);
	printf("memory 0x%llx-0x%llx initrd 0x%llx entry32 0x%llx entry64 0x%llx pvh 0x%llx\n",
		(unsigned long long)kernel.first, (unsigned long long)kernel.last,
		(unsigned long long)info.initrd.gpa, (unsigned long long)kernel.entry32,
		(unsigned long long)kernel.entry64, (unsigned long long)kernel.entry_pvh);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return 0;
}
