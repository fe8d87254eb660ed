/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.c - one table for each sub-command: getopt_long() reads it, --help prints it, and a test
 * compares it with the manual page.
 *
 * All take values alike: behind '=', behind the letter with '=' or without, or in the next word.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define OPTIONS_MAX 30
#define ID_FIRST 1000
#define ID_HELP 999

static void print_option(const struct tool_option *o)
{
	char head[64];
	bool maybe = o->arg && o->arg[0] == '[';
	size_t width = 24;
	const char *at = o->help;

	snprintf(head, sizeof(head), "%s%c%s--%s%s%s", o->letter ? "-" : " ",
		o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
		!o->arg ? ""
		: maybe ? "[="
			: " ",
		o->arg ? o->arg + maybe : "");
	printf("  %-*s", (int)width, head);
	if (strlen(head) >= width)
		printf("\n  %-*s", (int)width, "");
	for (;;) {
		size_t len = strcspn(at, "\n");

		printf("%.*s\n", (int)len, at);
		if (!at[len])
			return;
		at += len + 1;
		printf("  %-*s", (int)width, "");
	}
}

static void print_help(const struct tool_usage *usage)
{
	static const struct tool_option help = {"help", 'h', NULL, "print this text and exit"};

	printf("usage: guestmem %s %s\n\n%s\n\noptions:\n", usage->command, usage->operands,
		usage->about);
	for (const struct tool_option *o = usage->options; o->name; o++)
		print_option(o);
	print_option(&help);
}

struct table {
	struct option longs[OPTIONS_MAX + 2];
	char shorts[3 * OPTIONS_MAX + 8];
	size_t nr;
};

static void make_table(const struct tool_usage *usage, struct table *t)
{
	size_t s = 0;

	memset(t, 0, sizeof(*t));
	if (usage->stop_at_operand)
		t->shorts[s++] = '+';
	t->shorts[s++] = ':';
	t->shorts[s++] = 'h';
	for (; usage->options[t->nr].name && t->nr < OPTIONS_MAX; t->nr++) {
		const struct tool_option *o = &usage->options[t->nr];
		int has = !o->arg            ? no_argument
			  : o->arg[0] == '[' ? optional_argument
					     : required_argument;

		t->longs[t->nr] = (struct option){o->name, has, NULL, ID_FIRST + (int)t->nr};
		if (!o->letter)
			continue;
		t->shorts[s++] = o->letter;
		for (int i = 0; i < has; i++)
			t->shorts[s++] = ':';
	}
	t->longs[t->nr] = (struct option){"help", no_argument, NULL, ID_HELP};
}

static size_t option_of(const struct tool_usage *usage, int id)
{
	size_t i = 0;

	if (id >= ID_FIRST)
		return (size_t)(id - ID_FIRST);
	while (usage->options[i].letter != (char)id)
		i++;
	return i;
}

static void complain(const struct tool_usage *usage, const char *word, const char *why)
{
	tool_error("%.*s: %s (see guestmem %s --help)", (int)strcspn(word, "="), word, why,
		usage->command);
}

static void complain_of(const struct tool_usage *usage, char **argv)
{
	/* getopt_long leaves optind behind the word for long options only. */
	const char *word = argv[optind > 1 ? optind - 1 : 1];
	char letter[3] = {'-', (char)optopt, '\0'};

	if (optopt == '=')
		complain(usage, argv[optind < 1 ? 1 : optind], "takes no value");
	else if (optopt >= ID_HELP)
		complain(usage, word, "takes no value");
	else
		complain(usage, optopt ? letter : word, "unknown option, or short for several");
}

static bool complain_of_no_value(
	const struct tool_usage *usage, const struct tool_option *o, const char *next)
{
	char *why =
		next ? tool_printf("needs a value, %s, and '%s' looks like an option", o->arg, next)
		     : tool_printf("needs a value, %s", o->arg);
	char *word = tool_printf("--%s", o->name);

	complain(usage, word, why);
	free(word);
	free(why);
	return false;
}

static bool looks_like_option(const char *word)
{
	return word[0] == '-' && word[1];
}

/*
 * What getopt_long() has left in optarg, put right: "-w=2" is "--watch=2"; a value that may be left
 * out may stand in the next word, if that is no operand. False after a message.
 */
static bool find_value(const struct tool_usage *usage, int id, int argc, char **argv)
{
	const struct tool_option *o = &usage->options[option_of(usage, id)];
	const char *next = optind < argc ? argv[optind] : NULL;

	if (!o->arg)
		return true;
	if (o->arg[0] == '[' && !optarg) {
		if (next && !looks_like_option(next) && usage->is_operand &&
			!usage->is_operand(next))
			optarg = argv[optind++];
		return true;
	}
	/* A word of its own: one like an option is a value that was forgotten, unless it is a number. */
	if (optarg == argv[optind - 1])
		return !looks_like_option(optarg) || (optarg[1] >= '0' && optarg[1] <= '9') ||
		       complain_of_no_value(usage, o, optarg);
	if (id < ID_HELP && optarg[0] == '=')
		optarg++;
	return true;
}

int tool_options(const struct tool_usage *usage, int argc, char **argv, tool_option_fn *fn,
	void *ctx, int *ret_status)
{
	struct table t;
	int id;

	make_table(usage, &t);
	opterr = 0;
	optind = 1;
	while ((id = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
		*ret_status = EXIT_USAGE;
		if (id == '?') {
			complain_of(usage, argv);
			return -1;
		}
		if (id == ':') {
			complain_of_no_value(
				usage, &usage->options[option_of(usage, optopt)], NULL);
			return -1;
		}
		if (id == ID_HELP || id == 'h') {
			print_help(usage);
			*ret_status = EXIT_OK;
			return -1;
		}
		if (!find_value(usage, id, argc, argv) || !fn(ctx, option_of(usage, id), optarg))
			return -1;
	}
	*ret_status = EXIT_OK;
	return optind;
}

bool tool_bad_value(const char *option, const char *value, const char *why)
{
	tool_error("--%s: '%s' %s", option, value, why);
	return false;
}
