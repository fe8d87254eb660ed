/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - the guestmem command: finds the sub-command and runs it. */
#include <string.h>

#include <guestmem/error.h>

#include "tool.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{"blk", cmd_blk, "a disk for the guest of a VMM that speaks vhost-user"},
	{"convert", cmd_convert, "make saved memory of raw files, raw files of it, one of several"},
	{"doctor", cmd_doctor, "list what this host offers and lacks"},
	{"exec", cmd_exec, "run a command on memory that is lent to it"},
	{"inspect", cmd_inspect, "show what backs the guest memory of a process"},
	{"keep", cmd_keep, "hold the guests of guestmem serve while that is replaced"},
	{"map", cmd_map, "check a description of a memory map, show it, compare two"},
	{"migrate", cmd_migrate, "move a running guest of run to another process or machine"},
	{"restore", cmd_restore, "let a saved guest of run go on, with pages as it touches them"},
	{"run", cmd_run, "run a payload in a small virtual machine on memory of your choice"},
	{"serve", cmd_serve, "bring the pages of guests that Firecracker restores"},
	{"snapshot", cmd_snapshot, "save the memory of a guest in a file"},
	{"tables", cmd_tables, "show the page tables that a guest has in its memory"},
	{"verify", cmd_verify, "compare the checksums of saved memory"},
	{"vhost-user", cmd_vhost_user, "show what passes between a front-end and a device"},
	{"walk", cmd_walk, "show what sizes of pages cost: loads of a TLB miss, page tables"},
	{"wset", cmd_wset, "show and merge recorded working sets"},
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
	fputs("usage: guestmem COMMAND [OPTION]... [ARGUMENT]...\n"
	      "       guestmem --version | --help\n"
	      "\n"
	      "The physical memory of virtual machines.\n"
	      "\n"
	      "commands:\n",
		out);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\n"
	      "options:\n"
	      "  -V, --version  print the version and exit\n"
	      "  -h, --help     print this text, or that of a command, and exit\n",
		out);
}

/* "guestmem-blk" is "guestmem blk": what starts back-ends of vhost-user has room for a path alone. */
static int run_by_name(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');

	return strcmp(slash ? slash + 1 : argv[0], "guestmem-blk") == 0 ? cmd_blk(argc, argv) : -1;
}

static int run(int argc, char **argv)
{
	int status = argc > 0 ? run_by_name(argc, argv) : -1;

	if (status >= 0)
		return status;
	if (argc < 2) {
		tool_error("no command (see guestmem --help)");
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("guestmem %s\n", gm_version());
		return EXIT_OK;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return EXIT_OK;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	tool_error("%s: no such command (see guestmem --help)", argv[1]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int status;

	if (!tool_open_standard_fds())
		return EXIT_FAILED;
	tool_ignore_signals();
	status = run(argc, argv);
	if (!tool_flush() && status == EXIT_OK)
		status = EXIT_FAILED;
	return status;
}
