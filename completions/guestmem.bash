# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# Completion of the guestmem command for bash. Options come from its own --help.

# The long options of "guestmem SUBCOMMAND".
_guestmem_options() {
	"${COMP_WORDS[0]}" "$@" --help 2>/dev/null | grep -oE '^  (-., |    )--[a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+'
}

# Is the cursor behind the first word of the command that exec runs? *ret: the index of that word.
_guestmem_command_index() {
	local i
	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--)
			ret=$((i + 1))
			return 0
			;;
		--size | --page-size | --numa | --name | --json | --heatmap | --interval | -s | -p | -j | -i)
			i=$((i + 1))
			;;
		-*) ;;
		*)
			ret=$i
			return 0
			;;
		esac
	done
	return 1
}

_guestmem() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} ret
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W 'doctor exec inspect map walk --help --version' -- "$current")
		return
	fi
	if [ "${COMP_WORDS[1]}" = exec ] && _guestmem_command_index; then
		if declare -F _command_offset >/dev/null; then
			_command_offset "$ret"
		else
			mapfile -t COMPREPLY < <(compgen -c -f -- "$current")
		fi
		return
	fi
	case ${COMP_WORDS[1]}:$before in
	exec:--page-size | exec:-p)
		mapfile -t COMPREPLY < <(compgen -W 'base thp 2M 1G' -- "$current")
		;;
	exec:--numa)
		mapfile -t COMPREPLY < <(compgen -W \
			'bind: preferred: preferred-many: interleave: weighted-interleave:' -- "$current")
		;;
	inspect:--json | inspect:-j)
		mapfile -t COMPREPLY < <(compgen -f -W "$(cd /proc && echo [0-9]*)" -- "$current")
		;;
	walk:--guest | walk:-g | walk:--host | walk:-H | walk:--tables | walk:-t)
		mapfile -t COMPREPLY < <(compgen -W '4K 64K thp 2M 1G' -- "$current")
		;;
	walk:--levels | walk:-l)
		mapfile -t COMPREPLY < <(compgen -W '4x4 4x5 5x4 5x5' -- "$current")
		;;
	walk:--paging | walk:-P)
		mapfile -t COMPREPLY < <(compgen -W 'native nested shadow' -- "$current")
		;;
	walk:--pid | walk:-p)
		mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current")
		;;
	*:--json | *:-j | *:--heatmap | *:--svg)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		;;
	exec:--size | exec:-s | exec:--name | exec:--interval | exec:-i | inspect:--range | inspect:-r | inspect:--count | inspect:-n | walk:--size | walk:-s | walk:--tlb | walk:--rounds) ;;
	*)
		case ${COMP_WORDS[1]}:$current in
		*:-*) mapfile -t COMPREPLY < <(compgen -W "$(_guestmem_options "${COMP_WORDS[1]}")" -- "$current") ;;
		exec:*) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
		map:*) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
		inspect:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current") ;;
		esac
		;;
	esac
}

complete -F _guestmem guestmem
