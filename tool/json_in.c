/* SPDX-License-Identifier: BSD-3-Clause */
/* json_in.c - see json_in.h. The grammar is that of RFC 8259. */
#include "json_in.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

void json_in_start(struct json_in *in, const char *text, size_t len)
{
	*in = (struct json_in){.at = text, .end = text + len, .line = 1, .seen = 1};
}

bool json_in_fail(struct json_in *in, uint32_t line, const char *fmt, ...)
{
	char raw[JSON_IN_WHY_MAX];
	va_list args;

	if (in->failed)
		return false;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	tool_escape(raw, in->why, sizeof(in->why));
	in->failed = true;
	in->fault_line = line ? line : in->seen;
	return false;
}

static void skip_blanks(struct json_in *in)
{
	for (; in->at < in->end && strchr(" \t\r\n", *in->at) && *in->at; in->at++)
		in->line += *in->at == '\n';
}

enum json_in_kind json_in_peek(struct json_in *in)
{
	skip_blanks(in);
	if (in->failed || in->at == in->end)
		return JSON_IN_NOTHING;
	switch (*in->at) {
	case '{':
		return JSON_IN_OBJECT;
	case '[':
		return JSON_IN_ARRAY;
	case '"':
		return JSON_IN_STRING;
	case 't':
	case 'f':
	case 'n':
		return JSON_IN_WORD;
	default:
		return *in->at == '-' || (*in->at >= '0' && *in->at <= '9') ? JSON_IN_NUMBER
									    : JSON_IN_NOTHING;
	}
}

/* What stands here instead of what should. */
static bool unexpected(struct json_in *in, const char *wanted)
{
	if (in->failed)
		return false;
	if (in->at == in->end)
		return json_in_fail(in, in->seen, "the file ends where %s should be", wanted);
	if (*in->at == '\0')
		return json_in_fail(in, in->line, "a zero byte where %s should be", wanted);
	return json_in_fail(in, in->line, "'%c' where %s should be", *in->at, wanted);
}

static bool take(struct json_in *in, char c, const char *wanted)
{
	skip_blanks(in);
	if (in->failed || in->at == in->end || *in->at != c)
		return unexpected(in, wanted);
	in->at++;
	in->seen = in->line;
	return true;
}

bool json_in_open(struct json_in *in, char bracket)
{
	return take(in, bracket, bracket == '{' ? "an object" : "a list");
}

bool json_in_more(struct json_in *in, char closing, bool *first)
{
	skip_blanks(in);
	if (!in->failed && in->at < in->end && *in->at == closing) {
		in->seen = in->line;
		in->at++;
		return false;
	}
	if (!*first && !take(in, ',', closing == '}' ? "',' or '}'" : "',' or ']'"))
		return false;
	*first = false;
	skip_blanks(in);
	if (in->at < in->end && *in->at == closing)
		return json_in_fail(in, in->line, "nothing between ',' and '%c'", closing);
	return !in->failed;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits behind "\u". */
static bool take_unit(struct json_in *in, uint32_t *ret)
{
	*ret = 0;
	for (int i = 0; i < 4; i++, in->at++) {
		int digit = in->at < in->end ? hex_digit(*in->at) : -1;

		if (digit < 0)
			return json_in_fail(
				in, in->line, "\\u in a string is not followed by four digits");
		*ret = *ret << 4 | (uint32_t)digit;
	}
	return true;
}

static size_t encode(uint32_t c, char buf[4])
{
	if (c < 0x80) {
		buf[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		buf[0] = (char)(0xc0 | c >> 6);
		buf[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		buf[0] = (char)(0xe0 | c >> 12);
		buf[1] = (char)(0x80 | (c >> 6 & 0x3f));
		buf[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	buf[0] = (char)(0xf0 | c >> 18);
	buf[1] = (char)(0x80 | (c >> 12 & 0x3f));
	buf[2] = (char)(0x80 | (c >> 6 & 0x3f));
	buf[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static bool take_escaped_unicode(struct json_in *in, char out[4], size_t *ret_len)
{
	uint32_t low;
	uint32_t c;

	if (!take_unit(in, &c))
		return false;
	if (c >= 0xd800 && c < 0xdc00 && in->end - in->at > 2 && in->at[0] == '\\' &&
		in->at[1] == 'u') {
		in->at += 2;
		if (!take_unit(in, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return json_in_fail(in, in->line, "half a surrogate pair in a string");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	if (c >= 0xd800 && c < 0xe000)
		return json_in_fail(in, in->line, "half a surrogate pair in a string");
	if (c == 0)
		return json_in_fail(in, in->line, "a zero character in a string");
	*ret_len = encode(c, out);
	return true;
}

/* What stands behind a backslash. */
static bool take_escape(struct json_in *in, char out[4], size_t *ret_len)
{
	static const char names[] = "\"\\/bfnrt";
	static const char values[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (in->at == in->end)
		return json_in_fail(in, in->line, "a string has no end");
	if (*in->at == 'u') {
		in->at++;
		return take_escaped_unicode(in, out, ret_len);
	}
	found = *in->at ? strchr(names, *in->at) : NULL;
	if (!found)
		return json_in_fail(in, in->line, "a string has '\\' before what needs none");
	in->at++;
	out[0] = values[found - names];
	*ret_len = 1;
	return true;
}

/* Bytes of the UTF-8 sequence at the front, 0 if there is none. */
static size_t sequence(const struct json_in *in)
{
	const unsigned char *s = (const unsigned char *)in->at;
	size_t left = (size_t)(in->end - in->at);
	size_t len = s[0] < 0x80             ? 1
		     : (s[0] & 0xe0) == 0xc0 ? 2
		     : (s[0] & 0xf0) == 0xe0 ? 3
		     : (s[0] & 0xf8) == 0xf0 ? 4
					     : 0;
	char again[4];
	uint32_t c;

	if (len == 0 || len > left)
		return 0;
	if (len == 1)
		return 1;
	c = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	/* Not longer than it must be, no surrogate, not too large. */
	if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || encode(c, again) != len)
		return 0;
	return len;
}

static bool take_character(struct json_in *in, char out[4], size_t *ret_len)
{
	unsigned char c = (unsigned char)*in->at;

	if (c == '\\') {
		in->at++;
		return take_escape(in, out, ret_len);
	}
	if (c == '\n')
		return json_in_fail(in, in->line, "a line ends within a string");
	if (c < 0x20)
		return json_in_fail(in, in->line, "control character 0x%02x in a string", c);
	*ret_len = sequence(in);
	if (*ret_len == 0)
		return json_in_fail(in, in->line, "byte 0x%02x in a string is not UTF-8", c);
	memcpy(out, in->at, *ret_len);
	in->at += *ret_len;
	return true;
}

bool json_in_string(struct json_in *in, char *buf, size_t cap, const char *what)
{
	size_t len = 0;

	if (!take(in, '"', what))
		return false;
	for (;;) {
		char c[4];
		size_t nr = 0;

		if (in->at == in->end)
			return json_in_fail(in, in->seen, "a string has no end");
		if (*in->at == '"')
			break;
		if (!take_character(in, c, &nr))
			return false;
		if (buf && cap - len <= nr)
			return json_in_fail(
				in, in->line, "%s is longer than %zu bytes", what, cap - 1);
		if (buf)
			memcpy(buf + len, c, nr);
		len += nr;
	}
	in->at++;
	if (buf)
		buf[len] = '\0';
	return true;
}

bool json_in_key(struct json_in *in, char *buf, size_t cap)
{
	return json_in_string(in, buf, cap, "a member's name") && take(in, ':', "':'");
}

/* ---- numbers and words ---- */

static void skip_digits(struct json_in *in)
{
	while (in->at < in->end && *in->at >= '0' && *in->at <= '9')
		in->at++;
}

static bool at_any(const struct json_in *in, const char *set)
{
	return in->at < in->end && *in->at && strchr(set, *in->at);
}

static bool take_digits(struct json_in *in)
{
	const char *from = in->at;

	skip_digits(in);
	return in->at > from || unexpected(in, "a digit");
}

bool json_in_number(struct json_in *in, char *buf, size_t cap, const char *what)
{
	const char *from;
	size_t len;

	if (json_in_peek(in) != JSON_IN_NUMBER)
		return unexpected(in, what);
	in->seen = in->line;
	from = in->at;
	in->at += *from == '-';
	if (at_any(in, "0"))
		in->at++;
	else if (!take_digits(in))
		return false;
	if (at_any(in, ".")) {
		in->at++;
		if (!take_digits(in))
			return false;
	}
	if (at_any(in, "eE")) {
		in->at++;
		in->at += at_any(in, "+-");
		if (!take_digits(in))
			return false;
	}
	if (at_any(in, "0123456789"))
		return json_in_fail(in, in->line, "a number begins with 0");
	len = (size_t)(in->at - from);
	if (len >= cap)
		return json_in_fail(in, in->line, "%s has %zu digits", what, len);
	memcpy(buf, from, len);
	buf[len] = '\0';
	return true;
}

bool json_in_bool(struct json_in *in, bool *ret, const char *what)
{
	size_t left;

	if (json_in_peek(in) != JSON_IN_WORD)
		return unexpected(in, what);
	left = (size_t)(in->end - in->at);
	*ret = left >= 4 && memcmp(in->at, "true", 4) == 0;
	if (!*ret && !(left >= 5 && memcmp(in->at, "false", 5) == 0))
		return json_in_fail(in, in->line, "%s should be here", what);
	in->at += *ret ? 4 : 5;
	in->seen = in->line;
	return true;
}

bool json_in_finish(struct json_in *in)
{
	skip_blanks(in);
	if (in->failed)
		return false;
	return in->at == in->end || json_in_fail(in, in->line, "something follows the last '}'");
}
