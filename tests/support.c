/* SPDX-License-Identifier: BSD-3-Clause */
/* support.c - see support.h. What is changed on the host is put back at exit, in the reverse order.
 */
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNDO_MAX 32

static struct {
	char path[160];
	char text[64];
} undo[UNDO_MAX];
static unsigned int nr_undo;
static pid_t owner;

static bool write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	bool ok = file && fputs(text, file) >= 0;

	return file && fclose(file) == 0 && ok;
}

static bool read_file(const char *path, char *text, int cap)
{
	FILE *file = fopen(path, "r");
	bool ok = file && fgets(text, cap, file);

	if (file)
		fclose(file);
	return ok;
}

static void put_back(void)
{
	if (getpid() != owner)
		return;
	while (nr_undo > 0) {
		nr_undo--;
		write_file(undo[nr_undo].path, undo[nr_undo].text);
	}
}

static void put_back_and_die(int sig)
{
	put_back();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Remembers the present value: the word in brackets, or the whole line. */
static bool remember(const char *path)
{
	char text[256];
	char *open;
	char *close;

	if (nr_undo == UNDO_MAX || !read_file(path, text, sizeof(text)))
		return false;
	open = strchr(text, '[');
	close = open ? strchr(open, ']') : NULL;
	if (close)
		*close = '\0';
	snprintf(undo[nr_undo].path, sizeof(undo[nr_undo].path), "%s", path);
	snprintf(undo[nr_undo].text, sizeof(undo[nr_undo].text), "%.60s", close ? open + 1 : text);
	if (nr_undo++ == 0 && owner != getpid()) {
		static const int deadly[] = {SIGINT, SIGTERM, SIGHUP, SIGABRT, SIGALRM};

		owner = getpid();
		atexit(put_back);
		for (size_t i = 0; i < sizeof(deadly) / sizeof(*deadly); i++)
			signal(deadly[i], put_back_and_die);
	}
	return true;
}

bool support_knob(const char *path, const char *word)
{
	return remember(path) && write_file(path, word);
}

static unsigned long number(const char *dir, const char *name)
{
	char path[160];
	char text[64] = "0";

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	read_file(path, text, sizeof(text));
	return strtoul(text, NULL, 10);
}

bool support_pool(unsigned int log2, unsigned long pages)
{
	unsigned long total;
	unsigned long avail;
	char dir[96];
	char path[128];
	char text[32];

	snprintf(dir, sizeof(dir), "/sys/kernel/mm/hugepages/hugepages-%lukB", (1ul << log2) >> 10);
	snprintf(path, sizeof(path), "%s/nr_hugepages", dir);
	total = number(dir, "nr_hugepages");
	avail = number(dir, "free_hugepages") - number(dir, "resv_hugepages");
	if (avail >= pages)
		return true;
	snprintf(text, sizeof(text), "%lu", total + pages - avail);
	if (!remember(path))
		return false;
	/* Caches of files may lie in each gigabyte of a machine that has compiled for hours. */
	for (int tries = 0; tries < 3; tries++) {
		if (tries > 0) {
			write_file("/proc/sys/vm/drop_caches", "3");
			write_file("/proc/sys/vm/compact_memory", "1");
		}
		if (write_file(path, text) &&
			number(dir, "free_hugepages") - number(dir, "resv_hugepages") >= pages)
			return true;
	}
	return false;
}

/* Calls @line for each line of the mapping that holds @addr until it returns true. */
static bool each_smaps_line(const void *addr, bool (*line)(char *text, void *arg), void *arg)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	bool inside = false;
	bool found = false;
	char text[512];

	while (file && !found && fgets(text, sizeof(text), file)) {
		unsigned long first;
		unsigned long end;

		if (sscanf(text, "%lx-%lx ", &first, &end) == 2)
			inside = (uintptr_t)addr >= first && (uintptr_t)addr < end;
		else if (inside)
			found = line(text, arg);
	}
	if (file)
		fclose(file);
	return found;
}

struct value {
	const char *key;
	long long bytes;
};

static bool take_value(char *text, void *arg)
{
	struct value *value = arg;
	size_t len = strlen(value->key);

	if (strncmp(text, value->key, len) != 0)
		return false;
	value->bytes = strtoll(text + len, NULL, 10) * 1024;
	return true;
}

long long support_smaps(const void *addr, const char *key)
{
	struct value value = {.key = key, .bytes = -1};

	each_smaps_line(addr, take_value, &value);
	return value.bytes;
}

static bool has_flag(char *text, void *arg)
{
	char word[8];

	snprintf(word, sizeof(word), " %s ", (const char *)arg);
	return strncmp(text, "VmFlags:", 8) == 0 && strstr(text, word);
}

bool support_vmflag(const void *addr, const char *flag)
{
	return each_smaps_line(addr, has_flag, (void *)(uintptr_t)flag);
}

unsigned long support_scale(unsigned long n)
{
	const char *text = getenv("GM_TEST_SCALE");
	double scale = text ? strtod(text, NULL) : 1.0;

	if (scale <= 0 || n == 0)
		return n;
	return (double)n * scale < 1 ? 1 : (unsigned long)((double)n * scale);
}
