/* SPDX-License-Identifier: BSD-3-Clause */
/* json.h - the little that jansson does not have. */
#ifndef TOOL_JSON_H
#define TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "tool.h"

/* Text that may be no UTF-8: then what cannot be shown is escaped. */
json_t *tool_json_text(const char *text);
/* UINT64_MAX becomes null. */
json_t *tool_json_number(uint64_t n);
/* by_log2[] as {"4K": …, "2M": …, "1G": …} and the sizes between them that occur. */
json_t *tool_json_sizes(const uint64_t *by_log2, uint32_t base_log2, uint32_t pmd_log2);
/* GM_UNSEEN_* bits as a list of sentences. */
json_t *tool_json_unseen(uint32_t unseen);
/* Takes @json. Writes it with a newline, on one line if @compact; false after a message. */
bool tool_json_write(json_t *json, struct tool_output *out, bool compact);

#endif
