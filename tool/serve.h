/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve.h - "guestmem serve": one thread, one epoll, a pager for each guest.
 *
 *	connection -> look at the handshake -> record, userfaultfd, pidfd to the keeper -> pager -> steps -> its process ends
 */
#ifndef TOOL_SERVE_H
#define TOOL_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/types.h>

#include <guestmem/pager_run.h>
#include <jansson.h>

#include "image.h"
#include "keep.h"
#include "record.h"
#include "tool.h"

struct gm_wset;
struct gm_wset_recorder;
struct control;

/* What is waited for. */
enum serve_kind {
	SERVE_LISTENER,
	SERVE_CONTROL,
	SERVE_CONNECTION,
	SERVE_PAGER,
	SERVE_PROCESS,
	SERVE_SIGNAL,
	SERVE_KEEPER,
};

struct serve_item {
	enum serve_kind kind;
	void *of;
};

enum serve_end { SERVE_COMPLETE, SERVE_POISON, SERVE_HANDOVER };

struct serve_opts {
	const char *socket;
	const char *files[IMAGE_FILES_MAX];
	size_t nr_files;
	uint32_t format; /* enum gm_memfile_format */
	const char *working_set;
	const char *record;
	const char *control;
	const char *keeper;
	const char *json;
	uint32_t fill; /* enum gm_pager_ahead */
	uint64_t rate;
	uint64_t guests_max;
	uint64_t uid; /* UINT64_MAX: any */
	double deadline;
	uint32_t at_end; /* enum serve_end */
	bool at_end_said;
	bool kill; /* monitors whose guests cannot be served */
};

struct serve_connection {
	struct serve_connection *next;
	struct serve_item item;
	uint64_t id;
	int fd;
	unsigned int looks;
	double until;
	bool waits; /* for a guest to end */
	bool kept;
};

struct serve_guest {
	struct serve_guest *next;
	struct serve_item pager_item;
	struct serve_item process_item;
	uint64_t id;
	struct record record;
	int file; /* record */
	int uffd;
	int pidfd;                         /* or -1 */
	struct gm_wset_recorder *recorder; /* or NULL */
	struct gm_pager *pager;            /* NULL: it cannot be served, and stays as it is */
	double since;
	double look_at; /* its process has ended, its memory perhaps not: when to look again */
	bool ended;
	bool refused;
	bool kept;
	bool counted; /* its figures are in the totals */
	unsigned int said;
};

struct serve {
	struct serve_opts opts;
	struct image image;
	struct gm_wset *set;        /* brought ahead of each guest, or NULL */
	struct tool_output *events; /* lines of JSON, or NULL */
	int epoll;
	int signals;
	int listener;            /* -1: the keeper has it */
	struct control *control; /* or NULL */
	uint64_t listener_id;    /* the keeper's */
	int keeper;              /* connected, or -1 */
	struct serve_item listener_item;
	struct serve_item control_item;
	struct serve_item signal_item;
	struct serve_item keeper_item;
	struct serve_connection *connections;
	struct serve_guest *guests;
	size_t nr_connections;
	size_t nr_guests; /* that are served */
	uint32_t numbers;
	uint32_t ending; /* signals that have come */
	double ending_at;
	bool listens;
	bool made_socket; /* and nobody has heard of it but by its name */
	bool misused;
	double keeper_at; /* when it is tried again */
	double begun;
	uint64_t guests_all;
	uint64_t refused;
	uint64_t taken_over;
	double takeover;            /* seconds that took, from the keeper's first word on */
	struct gm_pager_stats past; /* of guests that have ended */
};

/* ---- serve.c ---- */
/* A line on stderr, and one of JSON. */
__attribute__((format(printf, 4, 5))) void serve_say(
	struct serve *s, const char *event, const struct record *guest, const char *fmt, ...);
bool serve_watch(struct serve *s, int fd, uint32_t events, struct serve_item *item);

/* ---- serve_connection.c ---- */
void serve_accept(struct serve *s);
/* Takes @fd. */
void serve_connection_begin(struct serve *s, int fd, uint64_t id, bool kept);
void serve_connection_look(struct serve *s, struct serve_connection *c);
/* Deadlines; and those who waited for a guest to end. */
void serve_connections_tick(struct serve *s, double now);
void serve_connections_sweep(struct serve *s);
void serve_connections_end(struct serve *s);

/* ---- serve_guest.c ---- */
/* Takes the descriptors. With @takeover the record has been read from @file. */
void serve_guest_begin(struct serve *s, struct serve_guest *g, bool takeover);
void serve_guest_refuse(struct serve *s, struct serve_guest *g, const char *why);
void serve_guest_step(struct serve *s, struct serve_guest *g);
/* Its process has ended. */
void serve_guest_died(struct serve *s, struct serve_guest *g);
void serve_guests_tick(struct serve *s, double now);
/* Frees those that have ended; between two rounds of events. */
void serve_guests_sweep(struct serve *s);
/* All have come to the end that was asked for? */
bool serve_guests_end(struct serve *s);
void serve_guests_free(struct serve *s);
/* Of all guests: states of pages, and sums of what was counted, ended guests included. */
void serve_guest_pages(const struct serve_guest *g, struct gm_pager_area_info *ret);
void serve_add_stats(struct gm_pager_stats *sum, const struct gm_pager_stats *more);

/* ---- serve_wset.c ---- */
/* False after a message. */
bool serve_wset_begin(struct serve *s);
void serve_wset_end(struct serve *s);
void serve_wset_guest(struct serve *s, struct serve_guest *g, bool takeover);
/* It has ended, and its pager is there yet. */
void serve_wset_save(struct serve *s, struct serve_guest *g);

/* ---- serve_keeper.c ---- */
/* Connects, and takes what it has; false after a message. */
bool serve_keeper_begin(struct serve *s);
bool serve_keeper_hand_over(struct serve *s);
void serve_keeper_read(struct serve *s);
void serve_keeper_tick(struct serve *s, double now);
void serve_keeper_guest(struct serve *s, struct serve_guest *g);
void serve_keeper_drop(struct serve *s, uint64_t id);

/* ---- serve_show.c ---- */
/* For the control socket; @ctx is the struct serve. */
json_t *serve_json(void *ctx);
void serve_metrics(void *ctx, FILE *out);

#endif
