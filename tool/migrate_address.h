/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_address.h - where a migration goes or comes: unix:PATH, tcp:HOST:PORT, tcp:[HOST]:PORT. */
#ifndef TOOL_MIGRATE_ADDRESS_H
#define TOOL_MIGRATE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_CAP 512u

struct address {
	bool tcp;
	char host[256]; /* empty: any */
	char port[16];
	char path[128];
	size_t place; /* which of the host's addresses the last connection went to */
};

/* False after a message. */
bool address_parse(const char *text, struct address *ret);
/*
 * A stream socket. @wait: every address of the host is tried, for so many seconds each; else the one that was found
 * then, and the socket may be connecting still. *ret_fd; 0, or a negative errno value, and *ret_why says it in words.
 */
int address_connect(struct address *address, double wait, int *ret_fd, const char **ret_why);
/* A listening socket that does not block; what it is called in @name. -1 after a message. */
int address_listen(const struct address *address, char name[ADDRESS_CAP]);
/* One that has come; -1: there is none. */
int address_accept(int listener, bool tcp);

#endif
