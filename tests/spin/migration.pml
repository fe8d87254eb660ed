/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migration.pml - the switch-over and the recovery of docs/migration-protocol.md, for Spin. scripts/check-spin goes through
 * all of its states.
 *
 * Two ends and control, which may be lost at any moment with what is on its way, each end may die at any moment. Memory is
 * one page: the one that post-copy misses. Connections of an old epoch go on to exist, so that what is on its way there may
 * still arrive, until the destination takes the next. Time passes when it likes: a deadline is a step that may be taken.
 *
 * What is not in it: rounds (the page is at the destination or not when it is READY), text, deadlines' lengths.
 *
 * With one of BAD_SOURCE_GOES_ON, BAD_RUNS_AT_READY, BAD_STALE_EPOCH, BAD_RECLAIMED_RUNS, BAD_ACK_EARLY the model is wrong, and Spin
 * has to say so.
 */
#define EPOCHS 3 /* the first, and two that are resumed */
#define ROOM 3   /* messages on their way */

mtype = { SWITCH, READY, RUN, RUNNING, RESUME, RESUMED, RECLAIM, RECLAIMED, REFUSED, PAGE, DONE, DONE_ACK, GIVEN_UP };
mtype = { waiting, missing, whole, gone }; /* numbers of RESUMED */

/* Per epoch: a message and its number. */
chan there[EPOCHS] = [ROOM] of { mtype, mtype };
chan back[EPOCHS] = [ROOM] of { mtype, mtype };
/*
 * Nothing arrives any more of what is sent from now on. So a suffix is lost of what was sent before somebody has noticed. What
 * is on its way arrives, or is not read.
 */
bool deaf_there[EPOCHS];
bool deaf_back[EPOCHS];
byte newest;             /* that the source has opened */

bool runs_source = false; /* paused: SWITCH is said first */
bool runs_destination = false;
bool dead_source, dead_destination;
bool later;               /* the page comes in post-copy */
bool has_page;            /* the destination has it */
bool lost_page;           /* said to be lost */
bool told_source; /* why nobody runs it, if nobody does */
bool succeeded;           /* the source may forget the memory */
bool over_source, over_destination;

#define one_runner (!(runs_source && runs_destination))

#define is_cut(e) (deaf_there[e] || deaf_back[e])

inline say_there(e, m, n)
{
	atomic {
		if
		:: !deaf_there[e] -> assert(nfull(there[e])); there[e]!m(n)
		:: else -> skip
		fi
	}
}

inline say_back(e, m, n)
{
	atomic {
		if
		:: !deaf_back[e] -> assert(nfull(back[e])); back[e]!m(n)
		:: else -> skip
		fi
	}
}

inline lose(e)
{
	atomic {
		deaf_there[e] = true;
		deaf_back[e] = true
	}
}

/* ---- the source ---- */

proctype source()
{
	byte e = 0;
	mtype n;
	bool back_wanted = false; /* the embedder wants the guest back */
	bool reclaimed = false;   /* RECLAIM was said */
	bool ran = false;         /* phase 2 */

	say_there(0, SWITCH, waiting);
	goto switched;

switched:
	if
	:: back[e]?READY(_) -> goto hand_over
	:: back[e]?REFUSED(_) -> goto here
	:: is_cut(e) && empty(back[e]) -> goto here   /* before RUN: it goes on */
	:: lose(e); goto here                      /* cancelled, or its deadline */
	:: dead_source -> goto end
	fi;

hand_over:
	/* From here on RUN may have been sent. */
	say_there(e, RUN, waiting);
	goto handed;

handed:
	if
	:: back[e]?RUNNING(_) -> ran = true; goto postcopy
	:: back[e]?REFUSED(_) -> goto here
	:: back[e]?GIVEN_UP(_) -> goto given_up
	:: is_cut(e) && empty(back[e]) -> goto line_lost
	:: !ran -> back_wanted = true; lose(e); goto line_lost
	:: lose(e); goto line_lost
	:: dead_source -> goto end
	fi;

postcopy:
	if
	:: later -> say_there(e, PAGE, waiting)
	:: else -> skip
	fi;
	say_there(e, DONE, waiting);
	if
	:: back[e]?DONE_ACK(_) -> goto well
	:: back[e]?GIVEN_UP(_) -> goto given_up
	:: is_cut(e) && empty(back[e]) -> goto line_lost
	:: lose(e); goto line_lost
	:: dead_source -> goto end
	fi;

line_lost:
#ifdef BAD_SOURCE_GOES_ON
	goto here;
#endif
	if
	:: e + 1 < EPOCHS -> e++; newest = e; goto asking
	:: told_source = true; goto doubt
	:: !ran -> back_wanted = true; goto line_lost_again
	:: dead_source -> goto end
	fi;

line_lost_again:
	if
	:: e + 1 < EPOCHS -> e++; newest = e; goto asking
	:: else -> told_source = true; goto doubt
	fi;

asking:
	say_there(e, RESUME, waiting);
	if
	:: back[e]?RESUMED(n) ->
		if
		:: n == gone -> goto given_up
		:: n == waiting && !ran && (back_wanted || reclaimed) ->
			reclaimed = true;
			say_there(e, RECLAIM, waiting);
			goto reclaiming
		:: n == waiting && !ran && !back_wanted && !reclaimed -> goto hand_over
		:: n == waiting && ran -> assert(false)
		:: (n == missing || n == whole) -> assert(!reclaimed); ran = true; goto postcopy
		fi
	:: is_cut(e) && empty(back[e]) -> goto line_lost
	:: lose(e); goto line_lost
	:: dead_source -> goto end
	fi;

reclaiming:
	if
	:: back[e]?RECLAIMED(_) -> goto here
	:: back[e]?REFUSED(_) -> goto here
	:: is_cut(e) && empty(back[e]) -> goto line_lost
	:: lose(e); goto line_lost
	:: dead_source -> goto end
	fi;

here:
	atomic {
		runs_source = !dead_source;
		assert(one_runner);
		goto end
	}

given_up:
	told_source = true;
	goto end;

well:
	atomic {
		succeeded = true;
		assert(has_page);
		goto end
	}

doubt:
	/* Somebody may know that the other end is dead. */
	atomic {
		if
		:: dead_destination && !dead_source -> runs_source = true; assert(one_runner)
		:: skip
		fi
	}

end:
	over_source = true;
	lose(e);
end_source:
	skip
}

/* ---- the destination ---- */

#define IDLE 0
#define LOADING 1
#define WAITS 2
#define RUNS 3
#define ACKED 4
#define NEVER 5
#define LEFT 6

inline run_it()
{
	atomic {
		state = RUNS;
		runs_destination = !dead_destination;
		assert(one_runner)
	}
}

inline give_up_pages()
{
	atomic {
		lost_page = lost_page || !has_page;
		say_back(e, GIVEN_UP, waiting);
		state = LEFT
	}
}

/* Older connections are not read from here on. */
inline resume_at(next)
{
	lose(e);
	e = next;
	resumed = false;
	done_due = false
}

proctype destination()
{
	byte e = 0;
	byte state = IDLE;
	bool resumed = true;
	bool done_due = false;
	bool on = true;

	do
	:: on && dead_destination -> on = false
	:: on && over_source && empty(there[e]) && (state == ACKED || state == NEVER || state == LEFT) -> on = false
	/* A newer epoch; one that was overtaken is never taken. */
	:: atomic { on && newest > e && state >= WAITS -> resume_at(e + 1) }
	:: atomic { on && newest > e + 1 && state >= WAITS -> resume_at(e + 2) }
#ifdef BAD_STALE_EPOCH
	/* What lies in the last epoch's connection is heard. */
	:: atomic { on && e > 0 && state == WAITS && there[e - 1]?[RUN(waiting)] -> there[e - 1]?RUN(_) } -> run_it()
#endif
	:: atomic { on && there[e]?[SWITCH(waiting)] -> there[e]?SWITCH(_) } ->
		if
		:: state = LOADING
		:: say_back(e, REFUSED, waiting); state = NEVER
		fi
	:: on && state == LOADING ->
		if
		:: is_cut(e) -> state = NEVER
		:: else ->
			say_back(e, READY, waiting);
			state = WAITS;
#ifdef BAD_RUNS_AT_READY
			run_it();
#endif
		fi
	:: atomic { on && there[e]?[RESUME(waiting)] -> there[e]?RESUME(_) } ->
		resumed = true;
		if
		:: state == WAITS || state == NEVER -> say_back(e, RESUMED, waiting)
		:: state == RUNS && !has_page -> say_back(e, RESUMED, missing)
		:: (state == RUNS && has_page) || state == ACKED -> say_back(e, RESUMED, whole)
		:: state == LEFT -> say_back(e, RESUMED, gone)
		fi
	:: atomic { on && there[e]?[RUN(waiting)] -> there[e]?RUN(_) } ->
		if
		:: state == WAITS ->
			if
			:: run_it(); say_back(e, RUNNING, waiting)
			/* it does not start, and has not run */
			:: atomic { state = NEVER; say_back(e, REFUSED, waiting) }
			fi
		:: state == NEVER ->
#ifdef BAD_RECLAIMED_RUNS
			run_it()
#else
			say_back(e, REFUSED, waiting)
#endif
#ifdef BAD_RUNS_AT_READY
		:: state == RUNS -> skip
#endif
		fi
	:: atomic { on && there[e]?[RECLAIM(waiting)] -> there[e]?RECLAIM(_) } ->
		assert(state == WAITS || state == NEVER);
		atomic { state = NEVER; say_back(e, RECLAIMED, waiting) }
	:: atomic { on && there[e]?[PAGE(waiting)] -> there[e]?PAGE(_) } ->
		if
		:: state == RUNS -> has_page = true
		:: else -> skip
		fi
	:: atomic { on && there[e]?[DONE(waiting)] -> there[e]?DONE(_) } ->
#ifdef BAD_ACK_EARLY
		state = ACKED;
		say_back(e, DONE_ACK, waiting)
#else
		done_due = true
#endif
	:: on && done_due && has_page && (state == RUNS || state == ACKED) ->
		done_due = false;
		state = ACKED;
		say_back(e, DONE_ACK, waiting)
	/* deadlines, and an embedder that has enough */
	:: on && state == WAITS && (is_cut(e) || resumed) -> atomic {
		state = NEVER; say_back(e, REFUSED, waiting) }
	:: on && state == RUNS && !has_page -> give_up_pages()
	:: on && state == RUNS && has_page && is_cut(e) -> state = ACKED
	:: on && state == IDLE && is_cut(e) && empty(there[e]) -> state = NEVER
	:: !on -> break
	od;
	over_destination = true;
end_destination:
	skip
}

/* ---- what happens to them ---- */

/* One way of one line fails by itself, at any moment; the ends give up lines as often as they like. */
proctype trouble()
{
	if
	:: deaf_there[0] = true
	:: deaf_back[0] = true
	:: deaf_there[1] = true
	:: deaf_back[1] = true
	:: skip
	fi
}

inline lose_all()
{
	lose(0);
	lose(1);
	lose(2)
}

proctype death()
{
	if
	:: atomic { dead_source = true; runs_source = false; lose_all() }
	:: atomic { dead_destination = true; runs_destination = false; lose_all() }
	:: skip
	fi
}

#define ended (over_source && over_destination)
#define nobody (!runs_source && !runs_destination)

init {
	atomic {
		if
		:: later = true
		:: has_page = true
		fi;
		run source();
		run destination();
		run trouble();
		run death()
	}
	/* Somebody runs the guest, or somebody has died, or was told why not. */
	atomic {
		ended ->
		assert(one_runner);
		assert(!nobody || dead_source || dead_destination || told_source);
		assert(!succeeded || (has_page && !lost_page))
	}
}

/* Both ends end, whatever happens. */
ltl ends { <> ended }
