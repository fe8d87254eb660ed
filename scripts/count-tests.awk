# SPDX-License-Identifier: BSD-3-Clause
#
# Reads a text log of "meson test" and prints one line for each case: pass, skip or fail, the name,
# and why, separated by tabs. Cases are those that cmocka prints; a program without any is one case.
# A line "skipped: REASON" on standard output is the reason of the skip that follows it. What failed stands on standard
# error: one message and its line for each failed case, in their order.
# Programs named in "again", each between blanks, are run once more: their failed cases are lines of the word "flaky".

function out(word, name, why) {
	if (index(again, " " test " ") && word != "fail")
		return
	if (index(again, " " test " "))
		word = "flaky"
	printf "%s\t%s\t%s\n", word, name, why
}

function out_skip(name) {
	out("skip", name, reason == "" ? "no reason given" : reason)
	reason = ""
}

# At the end of a program: what its exit status says that its cases did not.
function finish() {
	if (test == "")
		return
	for (i = 1; i <= failed; i++)
		out("fail", test ": " names[i], i in said ? said[i] : result)
	if (result == "exit status 77" && !cases)
		out_skip(test)
	else if (result != "exit status 0" && !failed)
		out("fail", test, result)
	else if (cmocka && !cases)
		out("fail", test, "ran no case")
	else if (!cmocka && result == "exit status 0")
		out("pass", test, "-")
	test = ""
}

/^=+ [0-9]+\/[0-9]+ =+$/ {
	finish()
	cmocka = cases = failed = lines = 0
	delete said
	reason = result = ""
	section = "head"
	next
}
/^-+ (stdout|stderr) -+$/ { section = $2; next }
/^=+$/ { finish(); section = ""; next }

section == "head" && /^test: / { sub(/^test: +([^ ]* \/ )?/, ""); test = $0 }
section == "head" && /^result: / { sub(/^result: +/, ""); result = $0 }
section == "stderr" && /^\[  ERROR   \] --- / { sub(/^[^-]*--- /, ""); said[lines + 1] = $0 }
section == "stderr" && /^\[   LINE   \] --- / {
	sub(/^[^-]*--- (\.\.\/)*/, "")
	sub(/: error: Failure!$/, "")
	said[++lines] = said[lines] " (" $0 ")"
}
section != "stdout" { next }

/^(# )?skipped: / { reason = $0; sub(/^[^:]*: /, "", reason) }
/^\[==========\] Running / { cmocka = 1 }
/^\[       OK \] / { cases++; out("pass", test ": " $NF, "-") }
/^\[  SKIPPED \] / { cases++; out_skip(test ": " $NF) }
/^\[  FAILED  \] / { cases++; names[++failed] = $NF }

END { finish() }
