/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c - see control.h: a line ("json", "metrics", "text"), or a request of HTTP (GET /json ...), and one answer,
 * by a Unix socket or one that the service manager has opened.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "sockets.h"
#include "systemd.h"
#include "tool.h"

#define CLIENTS_MAX 16
#define EVENTS 4 /* of a turn, and so answers that are made in it */
#define REQUEST_MAX 4096
#define DEADLINE 5.0
#define DRAIN 1.0
#define LISTENS_MAX ((size_t)1 << 20) /* bytes that one which listens has not read */
#define LATE_MS 100                   /* how long after its deadline a client may be there */

struct client {
	struct client *next;
	int fd; /* -1: gone */
	double until;
	size_t len;
	char *out; /* the answer */
	size_t out_len;
	size_t sent;
	bool listens;
	bool waits; /* for room to send */
	char request[REQUEST_MAX + 1];
};

struct control {
	struct control_ops ops;
	void *ctx;
	char *path; /* the name that was made, or NULL */
	dev_t dev;  /* of it */
	ino_t ino;
	int epoll;
	int listener;
	int timer;
	struct client *clients;
	unsigned int nr_clients;
	bool accepts;
	bool stalled; /* for want of descriptors */
	bool ticks;
};

static bool watch(const struct control *c, int fd, uint32_t events, void *of)
{
	struct epoll_event event = {.events = events, .data.ptr = of};

	return epoll_ctl(c->epoll, of ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event) == 0;
}

/* As long as there are clients. */
static void set_ticks(struct control *c, bool on)
{
	const struct itimerspec each = {{0, LATE_MS * 1000000L}, {0, LATE_MS * 1000000L}};
	const struct itimerspec never = {{0, 0}, {0, 0}};

	if (on != c->ticks)
		timerfd_settime(c->timer, 0, on ? &each : &never, NULL);
	c->ticks = on;
}

static void forget(struct control *c, struct client *client)
{
	close(client->fd);
	client->fd = -1;
	c->nr_clients--;
	if (!c->accepts)
		c->accepts = watch(c, c->listener, EPOLLIN, &c->listener);
}

/* There is no descriptor for who waits: he is looked at again when the timer strikes, not all the time. */
static void stall(struct control *c)
{
	watch(c, c->listener, 0, NULL);
	c->accepts = false;
	c->stalled = true;
	set_ticks(c, true);
}

static void look_again(struct control *c)
{
	if (c->stalled && !c->accepts)
		c->accepts = watch(c, c->listener, EPOLLIN, &c->listener);
	c->stalled = false;
}

static void accept_all(struct control *c)
{
	while (c->nr_clients < CLIENTS_MAX) {
		int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct client *client;

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			stall(c);
			return;
		}
		if (fd < 0)
			return;
		client = tool_alloc(1, sizeof(*client));
		client->fd = fd;
		client->until = tool_now() + DEADLINE;
		client->next = c->clients;
		c->clients = client;
		c->nr_clients++;
		set_ticks(c, true);
		if (!watch(c, fd, EPOLLIN, client))
			forget(c, client);
	}
	/* The next waits until one has gone. */
	watch(c, c->listener, 0, NULL);
	c->accepts = false;
}

/* ---- the answer ---- */

enum form { FORM_JSON, FORM_METRICS, FORM_TEXT, FORM_NONE };

static const struct {
	const char *word;
	const char *type;
} forms[] = {
	[FORM_JSON] = {"json", "application/json"},
	[FORM_METRICS] = {"metrics", "text/plain; version=0.0.4"},
	[FORM_TEXT] = {"text", "text/plain"},
	[FORM_NONE] = {"", "text/plain"},
};

static enum form form_of(const struct control *c, const char *word)
{
	for (enum form form = FORM_JSON; form < FORM_NONE; form++) {
		if (strcmp(word, forms[form].word) == 0)
			return form == FORM_TEXT && !c->ops.text ? FORM_NONE : form;
	}
	return FORM_NONE;
}

static char *json_body(const struct control *c, size_t *ret_len)
{
	json_t *json = c->ops.json(c->ctx);
	char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));

	json_decref(json);
	if (text)
		*ret_len = strlen(text);
	return text;
}

static char *body_of(const struct control *c, enum form form, size_t *ret_len)
{
	char *text = NULL;
	FILE *out;

	if (form == FORM_NONE)
		return NULL;
	if (form == FORM_JSON)
		return json_body(c, ret_len);
	out = open_memstream(&text, ret_len);
	if (!out)
		return NULL;
	(form == FORM_TEXT ? c->ops.text : c->ops.metrics)(c->ctx, out);
	fclose(out);
	return text;
}

static void answer(const struct control *c, struct client *client, bool http, const char *word)
{
	enum form form = form_of(c, word);
	size_t len = 0;
	char *body = body_of(c, form, &len);
	FILE *out = open_memstream(&client->out, &client->out_len);

	if (out) {
		if (http)
			fprintf(out,
				"HTTP/1.0 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
				"Connection: close\r\n\r\n",
				body ? "200 OK" : "404 Not Found",
				forms[body ? form : FORM_NONE].type, len);
		else if (!body)
			fprintf(out, "error: json or metrics%s is wanted",
				c->ops.text ? " or text" : "");
		fwrite(body ? body : "", 1, len, out);
		if (!http && (form == FORM_JSON || form == FORM_NONE))
			fputc('\n', out);
		fclose(out);
	}
	free(body);
}

/* What somebody else than us knows the meaning of. */
static bool told(const struct control *c, struct client *client, char *line)
{
	size_t len = strcspn(line, " \r\n");
	char after = line[len];
	enum form form;

	line[len] = '\0';
	form = form_of(c, line);
	line[len] = after;
	if (!c->ops.tell || form != FORM_NONE || !len)
		return false;
	client->listens = c->ops.tell(c->ctx, line, &client->out);
	client->out_len = client->out ? strlen(client->out) : 0;
	return client->out;
}

/* The word of a line, or of the path of a GET; false: it is not whole yet. */
static bool understand(const struct control *c, struct client *client)
{
	char *line = client->request;
	bool http = strncmp(line, "GET ", 4) == 0;
	char *end = strstr(line, http ? "\r\n\r\n" : "\n");

	if (!end)
		return false;
	*end = '\0';
	if (!http && told(c, client, line))
		return true;
	if (http) {
		line += 4;
		line += *line == '/';
	}
	line[strcspn(line, http ? " ?\r\n" : " \r\n")] = '\0';
	answer(c, client, http, line[0] ? line : "json");
	return true;
}

/* ---- clients ---- */

static void send_more(struct control *c, struct client *client)
{
	ssize_t nr = send(client->fd, client->out + client->sent, client->out_len - client->sent,
		MSG_NOSIGNAL);
	bool waits;

	if (nr > 0)
		client->sent += (size_t)nr;
	if ((client->sent == client->out_len && !client->listens) ||
		(nr < 0 && errno != EAGAIN && errno != EINTR)) {
		forget(c, client);
		return;
	}
	waits = client->sent < client->out_len;
	if (!client->listens || waits == client->waits)
		return;
	/* One that listens and has all is looked at for its end only. */
	watch(c, client->fd, 0, NULL);
	client->waits = waits;
	if (!watch(c, client->fd, waits ? EPOLLOUT : EPOLLIN, client))
		forget(c, client);
}

/* What it says is of no interest; that it has gone is. */
static void on_listener(struct control *c, struct client *client)
{
	char bytes[64];
	ssize_t nr = recv(client->fd, bytes, sizeof(bytes), 0);

	if (nr == 0 || (nr < 0 && errno != EAGAIN && errno != EINTR))
		forget(c, client);
}

static void on_client(struct control *c, struct client *client)
{
	ssize_t nr;

	if (client->fd < 0)
		return;
	if (client->listens && !client->waits) {
		on_listener(c, client);
		return;
	}
	if (client->out) {
		send_more(c, client);
		return;
	}
	nr = recv(client->fd, client->request + client->len, REQUEST_MAX - client->len, 0);
	if (nr < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (nr > 0)
		client->len += (size_t)nr;
	client->request[client->len] = '\0';
	if (nr > 0 && !understand(c, client) && client->len < REQUEST_MAX)
		return;
	if (!client->out) {
		forget(c, client);
		return;
	}
	watch(c, client->fd, 0, NULL);
	client->waits = true;
	if (watch(c, client->fd, EPOLLOUT, client))
		send_more(c, client);
	else
		forget(c, client);
}

/* Frees those that are gone, and those that were here too long. */
static void sweep(struct control *c, double now)
{
	struct client **at = &c->clients;

	while (*at) {
		struct client *client = *at;

		if (client->fd >= 0 && now >= client->until && !client->listens)
			forget(c, client);
		if (client->fd >= 0) {
			at = &client->next;
			continue;
		}
		*at = client->next;
		free(client->out);
		free(client);
	}
	set_ticks(c, c->clients || c->stalled);
}

void control_say(struct control *c, const char *line)
{
	size_t len = strlen(line);

	for (struct client *client = c ? c->clients : NULL; client; client = client->next) {
		size_t left = client->out_len - client->sent;

		if (client->fd < 0 || !client->listens)
			continue;
		if (left + len > LISTENS_MAX) {
			forget(c, client);
			continue;
		}
		memmove(client->out, client->out + client->sent, left);
		client->out = tool_realloc(client->out, left + len + 1, 1);
		memcpy(client->out + left, line, len + 1);
		client->out_len = left + len;
		client->sent = 0;
		send_more(c, client);
	}
}

static bool some_wait(const struct control *c)
{
	for (const struct client *client = c->clients; client; client = client->next) {
		if (client->fd >= 0 && client->listens && client->sent < client->out_len)
			return true;
	}
	return false;
}

void control_drain(struct control *c)
{
	double until = tool_now() + DRAIN;

	while (c && some_wait(c) && tool_now() < until) {
		struct pollfd wait = {.fd = c->epoll, .events = POLLIN};

		poll(&wait, 1, LATE_MS);
		control_turn(c);
	}
}

/* ---- life ---- */

int control_fd(const struct control *c)
{
	return c->epoll;
}

void control_turn(struct control *c)
{
	struct epoll_event events[EVENTS];
	int nr = epoll_wait(c->epoll, events, EVENTS, 0);
	uint64_t count;

	for (int i = 0; i < nr; i++) {
		void *of = events[i].data.ptr;

		if (of == &c->listener)
			accept_all(c);
		else if (of == &c->timer && read(c->timer, &count, sizeof(count)) > 0)
			look_again(c);
		else if (of == &c->timer)
			continue;
		else
			on_client(c, of);
	}
	sweep(c, tool_now());
}

static bool begin(struct control *c, const char *path)
{
	struct stat st;

	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->listener < 0) {
		c->listener = listen_on(path, SOCK_STREAM, S_IRUSR | S_IWUSR);
		if (c->listener < 0)
			return false;
		if (stat(path, &st) == 0) {
			c->path = tool_strdup(path);
			c->dev = st.st_dev;
			c->ino = st.st_ino;
		}
	}
	c->accepts = true;
	if (c->epoll >= 0 && c->timer >= 0 && watch(c, c->listener, EPOLLIN, &c->listener) &&
		watch(c, c->timer, EPOLLIN, &c->timer))
		return true;
	tool_error("the control socket cannot be waited for: %s", strerror(errno));
	return false;
}

bool control_open(const char *path, const struct control_ops *ops, void *ctx, struct control **ret)
{
	int inherited = systemd_socket("control");
	struct control *c;

	*ret = NULL;
	if (inherited < 0 && !path)
		return true;
	c = tool_alloc(1, sizeof(*c));
	*c = (struct control){
		.ops = *ops, .ctx = ctx, .epoll = -1, .listener = inherited, .timer = -1};
	if (begin(c, path)) {
		*ret = c;
		return true;
	}
	control_close(c);
	return false;
}

/* Another process may have replaced it meanwhile. */
static void remove_name(const struct control *c)
{
	struct stat st;

	if (c->path && lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
}

void control_close(struct control *c)
{
	if (!c)
		return;
	for (struct client *client = c->clients; client; client = client->next)
		client->listens = false;
	sweep(c, tool_now() + 2 * DEADLINE);
	remove_name(c);
	if (c->listener >= 0)
		close(c->listener);
	if (c->timer >= 0)
		close(c->timer);
	if (c->epoll >= 0)
		close(c->epoll);
	free(c->path);
	free(c);
}
