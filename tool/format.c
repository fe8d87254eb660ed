/* SPDX-License-Identifier: BSD-3-Clause */
/* format.c - numbers, sizes and names to and from text. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static bool parse_digits(const char *text, uint64_t *ret, char **end)
{
	unsigned long long n;

	/* strtoull takes signs and blanks; a size has none. */
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoull(text, end, text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10);
	*ret = n;
	return errno == 0;
}

bool tool_parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGTPE";
	uint64_t n;
	char *end;

	if (!parse_digits(text, &n, &end))
		return false;
	if (*end) {
		char upper = *end >= 'a' && *end <= 'z' ? (char)(*end - 'a' + 'A') : *end;
		const char *unit = strchr(units, upper);

		if (!unit)
			return false;
		if (__builtin_mul_overflow(n, UINT64_C(1024) << (10 * (unit - units)), &n))
			return false;
		end++;
		if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
			end += strlen(end);
	}
	if (*end)
		return false;
	*ret = n;
	return true;
}

bool tool_parse_number(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t n;
	char *end;

	if (!parse_digits(text, &n, &end) || *end || n > max)
		return false;
	*ret = n;
	return true;
}

bool tool_parse_seconds(const char *text, double min, double max, double *ret)
{
	double n;
	char *end;

	if (*text != '.' && (*text < '0' || *text > '9'))
		return false;
	errno = 0;
	n = strtod(text, &end);
	/* Written so that NaN fails. */
	if (errno || *end || !(n >= min && n <= max))
		return false;
	*ret = n;
	return true;
}

const char *tool_bytes(uint64_t bytes, char buf[TOOL_UNIT_CAP])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	size_t unit = 0;
	double n = (double)bytes;

	while (n >= 1024 && unit < 6) {
		n /= 1024;
		unit++;
	}
	snprintf(buf, TOOL_UNIT_CAP, fabs(n - round(n)) < 0.05 ? "%.0f %s" : "%.1f %s", n,
		units[unit]);
	return buf;
}

const char *tool_page_name(uint32_t log2, char buf[TOOL_UNIT_CAP])
{
	static const char units[] = "BKMGTPE";
	uint32_t unit = log2 / 10;

	if (unit > 6)
		unit = 6;
	if (unit)
		snprintf(buf, TOOL_UNIT_CAP, "%" PRIu64 "%c", UINT64_C(1) << (log2 - 10 * unit),
			units[unit]);
	else
		snprintf(buf, TOOL_UNIT_CAP, "%" PRIu64, UINT64_C(1) << log2);
	return buf;
}

uint32_t tool_log2(uint64_t power_of_two)
{
	return power_of_two ? 63 - (uint32_t)__builtin_clzll(power_of_two) : 0;
}

/* Bytes of a valid UTF-8 sequence of a printable character above ASCII, 0 if it is none. */
static size_t utf8_length(const unsigned char *s)
{
	uint32_t c;
	size_t len;

	if ((s[0] & 0xe0) == 0xc0) {
		len = 2;
		c = s[0] & 0x1f;
	} else if ((s[0] & 0xf0) == 0xe0) {
		len = 3;
		c = s[0] & 0x0f;
	} else if ((s[0] & 0xf8) == 0xf0) {
		len = 4;
		c = s[0] & 0x07;
	} else {
		return 0;
	}
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	/* C1 controls, overlong forms, surrogates, marks that turn the writing direction. */
	if (c < 0xa0 || (len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10ffff)) ||
		(c >= 0xd800 && c < 0xe000) || (c >= 0x200b && c <= 0x200f) ||
		(c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff)
		return 0;
	return len;
}

const char *tool_escape(const char *name, char *buf, size_t cap)
{
	const unsigned char *from = (const unsigned char *)name;
	size_t at = 0;

	while (*from && at + 5 < cap) {
		size_t len = *from >= 0x20 && *from < 0x7f ? 1 : utf8_length(from);

		if (len) {
			memcpy(buf + at, from, len);
			at += len;
			from += len;
		} else {
			at += (size_t)snprintf(buf + at, cap - at, "\\%03o", *from);
			from++;
		}
	}
	buf[at] = '\0';
	return buf;
}
