/* SPDX-License-Identifier: BSD-3-Clause */
/* text.c - numbers and words out of sysfs and procfs files. */
#include "services/text.h"

#include <string.h>

#include "sys/sys.h"

static unsigned int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned int)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned int)(c - 'a') + 10;
	return 99;
}

bool gm_text_number(const char *text, unsigned int base, uint64_t *ret, const char **ret_end)
{
	const char *at = text;
	uint64_t n = 0;

	for (; digit_of(*at) < base; at++) {
		if (__builtin_mul_overflow(n, (uint64_t)base, &n) ||
			__builtin_add_overflow(n, (uint64_t)digit_of(*at), &n))
			return false;
	}
	if (at == text)
		return false;
	*ret = n;
	if (ret_end)
		*ret_end = at;
	return true;
}

uint64_t gm_text_file_number(const char *path)
{
	char text[64];
	uint64_t n;

	if (gm_sys_read_text(path, text, sizeof(text)) < 0 || !gm_text_number(text, 10, &n, NULL))
		return GM_TEXT_UNKNOWN;
	return n;
}

void gm_text_file_word(const char *path, char *ret, size_t cap)
{
	char text[256];
	const char *from;
	size_t len;

	ret[0] = '\0';
	if (gm_sys_read_text(path, text, sizeof(text)) < 0)
		return;
	from = strchr(text, '[');
	from = from ? from + 1 : text;
	len = strcspn(from, "] \n");
	if (len == 0 || len >= cap || (from != text && from[len] != ']'))
		return;
	memcpy(ret, from, len);
	ret[len] = '\0';
}

uint64_t gm_text_field(const char *text, const char *key)
{
	size_t len = strlen(key);
	const char *end;
	uint64_t n;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, len) != 0)
			continue;
		line += len;
		line += strspn(line, " \t");
		if (!gm_text_number(line, 10, &n, &end))
			return GM_TEXT_UNKNOWN;
		if (strncmp(end, " kB", 3) == 0 && __builtin_mul_overflow(n, UINT64_C(1024), &n))
			return GM_TEXT_UNKNOWN;
		return n;
	}
	return GM_TEXT_UNKNOWN;
}

bool gm_text_list(const char *text, void (*fn)(void *arg, uint32_t number), void *arg)
{
	while (*text && *text != '\n') {
		uint64_t first;
		uint64_t last;

		if (!gm_text_number(text, 10, &first, &text))
			return false;
		last = first;
		if (*text == '-' && !gm_text_number(text + 1, 10, &last, &text))
			return false;
		/* Node numbers are small; a longer list is nonsense. */
		if (last < first || last > 65535)
			return false;
		for (uint64_t n = first; n <= last; n++)
			fn(arg, (uint32_t)n);
		if (*text == ',')
			text++;
	}
	return true;
}
