/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sort.c - heap sort; lists that are in order, or in falling order, as drivers give them, take one look.
 */
#include "core/sort.h"

#include <stdbool.h>

#define DEFINE_SORT(name, type, KEY)                                                               \
	static void name##_sift(type *items, size_t at, size_t nr)                                 \
	{                                                                                          \
		type item = items[at];                                                             \
                                                                                                   \
		for (size_t child = 2 * at + 1; child < nr; child = 2 * at + 1) {                  \
			if (child + 1 < nr && KEY(items[child]) < KEY(items[child + 1]))           \
				child++;                                                           \
			if (KEY(item) >= KEY(items[child]))                                        \
				break;                                                             \
			items[at] = items[child];                                                  \
			at = child;                                                                \
		}                                                                                  \
		items[at] = item;                                                                  \
	}                                                                                          \
                                                                                                   \
	static void name##_reverse(type *items, size_t nr)                                         \
	{                                                                                          \
		for (size_t i = 0; i < nr / 2; i++) {                                              \
			type item = items[i];                                                      \
                                                                                                   \
			items[i] = items[nr - 1 - i];                                              \
			items[nr - 1 - i] = item;                                                  \
		}                                                                                  \
	}                                                                                          \
                                                                                                   \
	void name(type *items, size_t nr)                                                          \
	{                                                                                          \
		bool up = true;                                                                    \
		bool down = true;                                                                  \
                                                                                                   \
		for (size_t i = 1; i < nr && (up || down); i++) {                                  \
			up = up && KEY(items[i - 1]) <= KEY(items[i]);                             \
			down = down && KEY(items[i - 1]) >= KEY(items[i]);                         \
		}                                                                                  \
		if (!up && down)                                                                   \
			name##_reverse(items, nr);                                                 \
		if (up || down)                                                                    \
			return;                                                                    \
		for (size_t at = nr / 2; at > 0; at--)                                             \
			name##_sift(items, at - 1, nr);                                            \
		for (size_t end = nr - 1; end > 0; end--) {                                        \
			type top = items[0];                                                       \
                                                                                                   \
			items[0] = items[end];                                                     \
			items[end] = top;                                                          \
			name##_sift(items, 0, end);                                                \
		}                                                                                  \
	}

#define KEY_ITSELF(item) (item)
#define KEY_MEMBER(item) ((item).key)

DEFINE_SORT(gm_sort_u32, uint32_t, KEY_ITSELF)
DEFINE_SORT(gm_sort_pairs, struct gm_sort_pair, KEY_MEMBER)
