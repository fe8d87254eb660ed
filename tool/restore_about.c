/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * restore_about.c - the labels of a saved guest, or of one that comes, as run_snapshot.c makes them. They are
 * not trusted.
 */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "restore.h"
#include "run_snapshot.h"

#define DATA_MAX (UINT64_C(1) << 40)
#define PAUSE_MAX 1e6

static const struct gm_snapshot_label *find_label(
	const struct gm_snapshot_label *labels, size_t nr, const char *key)
{
	for (size_t i = 0; i < nr; i++) {
		if (strcmp(labels[i].key, key) == 0)
			return &labels[i];
	}
	return NULL;
}

static bool number(const json_t *value, uint64_t max, uint64_t *ret)
{
	const char *text = json_string_value(value);

	return text && tool_parse_number(text, max, ret);
}

static bool member(const json_t *json, const char *name, uint64_t max, uint64_t *ret)
{
	return number(json_object_get(json, name), max, ret);
}

static bool small(const json_t *json, const char *name, uint32_t min, uint32_t max, uint32_t *ret)
{
	const json_t *value = json_object_get(json, name);
	json_int_t n = json_integer_value(value);

	*ret = (uint32_t)n;
	return json_is_integer(value) && n >= min && n <= max;
}

static bool read_words(const json_t *json, struct run_opts *o)
{
	const json_t *list = json_object_get(json, "words");
	size_t nr = json_array_size(list);

	if (nr == 0 || nr > 4096)
		return false;
	o->words = tool_alloc(nr + 1, sizeof(*o->words));
	o->nr_words = (uint32_t)nr;
	for (size_t i = 0; i < nr; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (!text)
			return false;
		/* Nobody writes to them. */
		o->words[i] = (char *)(uintptr_t)text;
	}
	return true;
}

static bool read_lists(const json_t *json, struct restore_about *a, struct run_opts *o)
{
	const json_t *args = json_object_get(json, "args");
	const json_t *ends = json_object_get(json, "ends");

	if (json_array_size(args) != RUN_NR_ARGS || json_array_size(ends) != o->vcpus)
		return false;
	for (size_t i = 0; i < RUN_NR_ARGS; i++) {
		if (!number(json_array_get(args, i), UINT64_MAX, &o->args[i]))
			return false;
	}
	for (uint32_t i = 0; i < o->vcpus; i++) {
		const json_t *end = json_array_get(ends, i);
		json_int_t how = json_integer_value(json_array_get(end, 0));
		uint64_t status;

		if (!number(json_array_get(end, 1), UINT32_MAX, &status) ||
			(how != MACHINE_ENDED && how != MACHINE_STOPPED))
			return false;
		a->vcpus[i].end = (enum machine_end)how;
		a->vcpus[i].status = (uint32_t)status;
	}
	return true;
}

/* Files of earlier versions have none. */
static bool read_engine(const json_t *json, struct run_opts *o)
{
	const json_t *value = json_object_get(json, "engine");
	const char *text = json_string_value(value);

	o->engine = text && strcmp(text, "thread") == 0 ? RUN_THREAD : RUN_KVM;
	return !value || (text && (o->engine == RUN_THREAD || strcmp(text, "kvm") == 0));
}

static bool read_all(const json_t *json, struct restore_about *a, struct run_opts *o)
{
	uint32_t version;

	o->pause = json_number_value(json_object_get(json, "pause"));
	return o->pause >= 0 && o->pause <= PAUSE_MAX && read_engine(json, o) &&
	       small(json, "version", RUN_SNAPSHOT_VERSION, RUN_SNAPSHOT_VERSION, &version) &&
	       small(json, "vcpus", 1, MACHINE_VCPUS_MAX, &o->vcpus) &&
	       small(json, "guest_log2", 12, 30, &o->guest_log2) &&
	       (o->guest_log2 == 12 || o->guest_log2 == 21 || o->guest_log2 == 30) &&
	       small(json, "payload", 0, RUN_NR_PAYLOADS - 1, &o->payload) &&
	       member(json, "size", UINT64_MAX, &o->memory.size) &&
	       member(json, "data", DATA_MAX, &o->memory.data_len) &&
	       member(json, "seed", UINT64_MAX, &o->seed) &&
	       member(json, "tables", UINT64_MAX, &o->tables_used) &&
	       member(json, "doorbells", UINT64_MAX, &a->doorbells) &&
	       member(json, "doorbell", UINT64_MAX, &a->doorbell) &&
	       member(json, "stop", UINT64_MAX, &a->stop) && read_words(json, o) &&
	       read_lists(json, a, o);
}

bool restore_about(const struct gm_snapshot_label *labels, size_t nr, const char *path,
	struct restore_about *ret, struct run_opts *o)
{
	const struct gm_snapshot_label *label = find_label(labels, nr, RUN_SNAPSHOT_LABEL);
	char name[24];
	json_t *json;

	if (!label) {
		tool_error("%s: it is not a guest that guestmem run --snapshot has saved", path);
		return false;
	}
	json = json_loadb(label->value, label->len, JSON_REJECT_DUPLICATES, NULL);
	ret->words = json;
	if (!json || !read_all(json, ret, o)) {
		tool_error(
			"%s: what it says of its guest cannot be, or is another version's", path);
		return false;
	}
	for (uint32_t i = 0; i < o->vcpus; i++) {
		snprintf(name, sizeof(name), o->engine == RUN_KVM ? "vcpu-%u" : "thread-%u", i);
		label = find_label(labels, nr, name);
		if (!label) {
			tool_error("%s: the state of vCPU %u is missing", path, i);
			return false;
		}
		/* Only read from. */
		ret->vcpus[i].bytes = (uint8_t *)(uintptr_t)label->value;
		ret->vcpus[i].len = label->len;
	}
	return true;
}

void restore_about_fini(struct restore_about *about, struct run_opts *o)
{
	free(o->words);
	o->words = NULL;
	json_decref(about->words);
	about->words = NULL;
}
