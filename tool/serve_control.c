/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_control.c - statistics: a line ("json", "metrics"), or a request of HTTP (GET /json, GET /metrics), and one
 * answer, by a Unix socket or one that the service manager has opened.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve.h"
#include "tool.h"

#define CLIENTS_MAX 16
#define REQUEST_MAX 4096
#define DEADLINE 5.0

struct serve_client {
	struct serve_client *next;
	struct serve_item item;
	int fd;
	double until;
	size_t len;
	char *out; /* the answer */
	size_t out_len;
	size_t sent;
	char request[REQUEST_MAX + 1];
};

void serve_control_accept(struct serve *s)
{
	while (s->nr_clients < CLIENTS_MAX) {
		int fd = accept4(s->control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct serve_client *c;

		if (fd < 0)
			return;
		c = tool_alloc(1, sizeof(*c));
		c->fd = fd;
		c->until = tool_now() + DEADLINE;
		c->item = (struct serve_item){SERVE_CLIENT, c};
		c->next = s->clients;
		s->clients = c;
		s->nr_clients++;
		serve_watch(s, fd, EPOLLIN, &c->item);
	}
	/* The next waits until one has gone. */
	serve_watch(s, s->control, 0, NULL);
}

static void forget(struct serve *s, struct serve_client *c)
{
	close(c->fd);
	c->fd = -1;
	if (s->nr_clients-- == CLIENTS_MAX)
		serve_watch(s, s->control, EPOLLIN, &s->control_item);
}

/* ---- the answer ---- */

static char *body_of(const struct serve *s, bool metrics, size_t *ret_len)
{
	json_t *json;
	char *text = NULL;
	FILE *out;

	if (!metrics) {
		json = serve_json(s);
		text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
		json_decref(json);
		if (text)
			*ret_len = strlen(text);
		return text;
	}
	out = open_memstream(&text, ret_len);
	if (!out)
		return NULL;
	serve_metrics(s, out);
	fclose(out);
	return text;
}

static void answer(const struct serve *s, struct serve_client *c, bool http, const char *what)
{
	bool metrics = strcmp(what, "metrics") == 0;
	bool known = metrics || strcmp(what, "json") == 0;
	size_t len = 0;
	char *body = known ? body_of(s, metrics, &len) : NULL;
	FILE *out = open_memstream(&c->out, &c->out_len);

	if (out) {
		if (http)
			fprintf(out,
				"HTTP/1.0 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
				"Connection: close\r\n\r\n",
				body ? "200 OK" : "404 Not Found",
				!body     ? "text/plain"
				: metrics ? "text/plain; version=0.0.4"
					  : "application/json",
				len);
		else if (!body)
			fputs("error: json or metrics is wanted", out);
		fwrite(body ? body : "", 1, len, out);
		if (!http && !metrics)
			fputc('\n', out);
		fclose(out);
	}
	free(body);
}

/* The word of a line, or of the path of a GET; false: it is not whole yet. */
static bool understand(const struct serve *s, struct serve_client *c)
{
	char *line = c->request;
	bool http = strncmp(line, "GET ", 4) == 0;
	char *end = strstr(line, http ? "\r\n\r\n" : "\n");

	if (!end)
		return false;
	*end = '\0';
	if (http) {
		line += 4;
		line += *line == '/';
	}
	line[strcspn(line, http ? " ?\r\n" : " \r\n")] = '\0';
	answer(s, c, http, line[0] ? line : "json");
	return true;
}

static void send_more(struct serve *s, struct serve_client *c)
{
	ssize_t nr = send(c->fd, c->out + c->sent, c->out_len - c->sent, MSG_NOSIGNAL);

	if (nr > 0)
		c->sent += (size_t)nr;
	if (c->sent == c->out_len || (nr < 0 && errno != EAGAIN && errno != EINTR))
		forget(s, c);
}

void serve_client_ready(struct serve *s, struct serve_client *c)
{
	ssize_t nr;

	if (c->fd < 0)
		return;
	if (c->out) {
		send_more(s, c);
		return;
	}
	nr = recv(c->fd, c->request + c->len, REQUEST_MAX - c->len, 0);
	if (nr < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (nr > 0)
		c->len += (size_t)nr;
	c->request[c->len] = '\0';
	if (nr > 0 && !understand(s, c) && c->len < REQUEST_MAX)
		return;
	if (!c->out) {
		forget(s, c);
		return;
	}
	serve_watch(s, c->fd, 0, NULL);
	serve_watch(s, c->fd, EPOLLOUT, &c->item);
	send_more(s, c);
}

void serve_clients_sweep(struct serve *s, double now)
{
	struct serve_client **at = &s->clients;

	while (*at) {
		struct serve_client *c = *at;

		if (c->fd >= 0 && now >= c->until)
			forget(s, c);
		if (c->fd >= 0) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free(c->out);
		free(c);
	}
}

void serve_clients_end(struct serve *s)
{
	serve_clients_sweep(s, tool_now() + 2 * DEADLINE);
}
