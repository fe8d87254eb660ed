/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sparse-init.c - the init of the guest in scripts/check-sparse: uses 256 MiB, says that it is up, and after a line on the
 * console writes one byte of an explicit huge page of 1 GiB.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <unistd.h>

#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB (30 << 26)
#endif

#define USED (256UL << 20)

static void step(const char *what)
{
	char byte = 0;

	printf("\nGUEST %s\n", what);
	fflush(stdout);
	while (read(0, &byte, 1) == 1 && byte != '\n' && byte != '\r')
		;
}

int main(void)
{
	volatile char *page =
		mmap(NULL, USED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned long at = 0; page != MAP_FAILED && at < USED; at += 4096)
		page[at] = 1;
	step("UP");
	page = mmap(NULL, 1UL << 30, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB, -1, 0);
	if (page == MAP_FAILED)
		perror("hugetlb 1G");
	else
		page[123456789] = 1;
	step(page == MAP_FAILED ? "HAS NO HUGE PAGE" : "WROTE A BYTE");
	reboot(RB_AUTOBOOT);
	return 0;
}
