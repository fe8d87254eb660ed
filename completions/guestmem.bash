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
		--size | --limit | --page-size | --numa | --name | --json | --heatmap | --interval | -s | -p | -j | -i)
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

# Is the cursor behind the payload of run? *ret: its name.
_guestmem_payload() {
	local i
	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--size | --pages | --guest-pages | --backing | --numa | --vcpus | --engine | --data | --seed | --time | --timeout | --restart | --control | --control-rate | --json | -[spgcedtj])
			i=$((i + 1))
			;;
		-*) ;;
		*)
			ret=${COMP_WORDS[i]}
			return 0
			;;
		esac
	done
	return 1
}

# The parameters of the payload called $1.
_guestmem_parameters() {
	case $1 in
	touch) echo 'order=sequential order=random stride= mode=write mode=read rounds= verify=yes verify=no' ;;
	chase) echo 'stride= steps=' ;;
	stream) echo 'kernel=triad kernel=copy rounds= verify=yes verify=no' ;;
	store) echo 'ops= keys= writes= skew=' ;;
	stamp) echo 'rounds= pages= order=sequential order=random pause= verify=yes verify=no' ;;
	replay) echo 'trace= mode=recorded mode=read slower=' ;;
	control) echo 'rounds= flood=' ;;
	esac
}

_guestmem() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} ret
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W 'convert doctor exec inspect map run snapshot tables verify walk --help --version' -- "$current")
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
	if [ "${COMP_WORDS[1]}" = run ] && _guestmem_payload; then
		mapfile -t COMPREPLY < <(compgen -W "$(_guestmem_parameters "$ret")" -- "$current")
		return
	fi
	case ${COMP_WORDS[1]}:$before in
	exec:--page-size | exec:-p)
		mapfile -t COMPREPLY < <(compgen -W 'base thp 2M 1G' -- "$current")
		;;
	run:--pages | run:-p)
		mapfile -t COMPREPLY < <(compgen -W 'default sparse base 16K 32K 64K 128K 256K 512K 1M thp 2M 1G' -- "$current")
		;;
	run:--guest-pages | run:-g)
		mapfile -t COMPREPLY < <(compgen -W '4K 2M 1G' -- "$current")
		;;
	run:--engine | run:-e)
		mapfile -t COMPREPLY < <(compgen -W 'kvm thread auto' -- "$current")
		;;
	run:--backing)
		mapfile -t COMPREPLY < <(compgen -f -W 'anon shared memfd' -- "$current")
		;;
	exec:--numa | run:--numa)
		mapfile -t COMPREPLY < <(compgen -W \
			'bind: preferred: preferred-many: interleave: weighted-interleave:' -- "$current")
		;;
	inspect:--json | inspect:-j)
		mapfile -t COMPREPLY < <(compgen -f -W "$(cd /proc && echo [0-9]*)" -- "$current")
		;;
	walk:--guest | walk:-g | walk:--host | walk:-H | walk:--tables | walk:-t)
		mapfile -t COMPREPLY < <(compgen -W '4K 64K thp 2M 1G' -- "$current")
		;;
	convert:--to | convert:-t)
		mapfile -t COMPREPLY < <(compgen -W 'saved raw' -- "$current")
		;;
	snapshot:--codec | snapshot:-c)
		mapfile -t COMPREPLY < <(compgen -W 'best raw zstd lz4' -- "$current")
		;;
	snapshot:--pid | snapshot:-p)
		mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current")
		;;
	tables:--levels | tables:-l)
		mapfile -t COMPREPLY < <(compgen -W '4 5' -- "$current")
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
	*:--json | *:-j | *:--heatmap | *:--svg | run:--data | run:-d)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		;;
	exec:--size | exec:-s | exec:--limit | tables:--root | tables:-r | tables:--low | snapshot:--low | snapshot:--level | snapshot:-l | snapshot:--label | snapshot:-L | exec:--name | exec:--interval | exec:-i | inspect:--range | inspect:-r | inspect:--count | inspect:-n | walk:--size | walk:-s | walk:--tlb | walk:--rounds) ;;
	run:--size | run:-s | run:--vcpus | run:-c | run:--seed | run:--time | run:-t | run:--timeout | run:--restart | run:--control-rate) ;;
	run:--control) mapfile -t COMPREPLY < <(compgen -W 'safe all' -- "$current") ;;
	*)
		case ${COMP_WORDS[1]}:$current in
		*:-*) mapfile -t COMPREPLY < <(compgen -W "$(_guestmem_options "${COMP_WORDS[1]}")" -- "$current") ;;
		exec:*) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
		run:*) mapfile -t COMPREPLY < <(compgen -f -W 'touch chase stream store stamp replay control' -- "$current") ;;
		map:* | tables:* | snapshot:* | verify:* | convert:*) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
		inspect:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current") ;;
		esac
		;;
	esac
}

complete -F _guestmem guestmem
