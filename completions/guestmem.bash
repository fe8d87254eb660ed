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
		--size | --pages | --guest-pages | --backing | --numa | --vcpus | --engine | --data | --seed | --time | --timeout | --restart | --control | --control-rate | --control-socket | --json | -[spgcedtj])
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
		mapfile -t COMPREPLY < <(compgen -W 'blk convert doctor exec inspect keep map migrate restore run serve snapshot tables verify vhost-user walk wset --help --version' -- "$current")
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
	run:--pages | run:-p | restore:--pages | restore:-p | migrate:--pages | migrate:-p)
		mapfile -t COMPREPLY < <(compgen -W 'default sparse base 16K 32K 64K 128K 256K 512K 1M thp 2M 1G' -- "$current")
		;;
	run:--guest-pages | run:-g)
		mapfile -t COMPREPLY < <(compgen -W '4K 2M 1G' -- "$current")
		;;
	run:--engine | run:-e)
		mapfile -t COMPREPLY < <(compgen -W 'kvm thread auto' -- "$current")
		;;
	run:--backing | restore:--backing | migrate:--backing)
		mapfile -t COMPREPLY < <(compgen -f -W 'anon shared memfd' -- "$current")
		;;
	exec:--numa | run:--numa | restore:--numa | migrate:--numa)
		mapfile -t COMPREPLY < <(compgen -W \
			'bind: preferred: preferred-many: interleave: weighted-interleave:' -- "$current")
		;;
	inspect:--json | inspect:-j)
		mapfile -t COMPREPLY < <(compgen -f -W "$(cd /proc && echo [0-9]*)" -- "$current")
		;;
	walk:--guest | walk:-g | walk:--host | walk:-H | walk:--tables | walk:-t)
		mapfile -t COMPREPLY < <(compgen -W '4K 64K thp 2M 1G' -- "$current")
		;;
	restore:--fill | restore:-f)
		mapfile -t COMPREPLY < <(compgen -W 'none all' -- "$current")
		;;
	serve:--fill | serve:-f)
		mapfile -t COMPREPLY < <(compgen -W 'none ranges all' -- "$current")
		;;
	serve:--format)
		mapfile -t COMPREPLY < <(compgen -W 'saved raw mapped-ram' -- "$current")
		;;
	serve:--at-end | serve:-e)
		mapfile -t COMPREPLY < <(compgen -W 'complete poison handover' -- "$current")
		;;
	keep:--then | keep:-t)
		mapfile -t COMPREPLY < <(compgen -W 'poison kill hold' -- "$current")
		;;
	convert:--to | convert:-t)
		mapfile -t COMPREPLY < <(compgen -W 'saved raw sparse diff' -- "$current")
		;;
	convert:--from | convert:-f)
		mapfile -t COMPREPLY < <(compgen -W 'saved raw mapped-ram' -- "$current")
		;;
	snapshot:--codec | snapshot:-c)
		mapfile -t COMPREPLY < <(compgen -W 'best raw zstd lz4' -- "$current")
		;;
	migrate:--codec)
		mapfile -t COMPREPLY < <(compgen -W 'raw zstd lz4' -- "$current")
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
	vhost-user:--interval | vhost-user:-i | blk:--fd | blk:--queues | blk:-q | blk:--queue-size | blk:--block-size | blk:--serial | blk:--poll) ;;
	wset:--to | wset:-t)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		;;
	wset:--least | wset:-n)
		mapfile -t COMPREPLY < <(compgen -W '1 2 all' -- "$current")
		;;
	walk:--pid | walk:-p)
		mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current")
		;;
	blk:--socket-path | blk:-s | blk:--control | blk:-c | vhost-user:--control | vhost-user:-c | blk:--blk-file | blk:-b | *:--json | *:-j | *:--heatmap | *:--svg | exec:--from | exec:-f | run:--snapshot | run:--control-socket | migrate:--control | migrate:-c | migrate:--events | restore:--memory | restore:-m | restore:--events | serve:--snapshot | serve:--working-set | serve:-w | serve:--record | serve:-R | serve:-s | serve:--control | serve:-c | serve:--keeper | serve:-k | run:--data | run:-d)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		;;
	exec:--size | exec:-s | exec:--limit | tables:--root | tables:-r | tables:--low | snapshot:--low | snapshot:--level | snapshot:-l | snapshot:--label | snapshot:-L | exec:--name | exec:--interval | exec:-i | inspect:--range | inspect:-r | inspect:--count | inspect:-n | walk:--size | walk:-s | walk:--tlb | walk:--rounds | wset:--last | wset:-l) ;;
	run:--size | run:-s | run:--vcpus | run:-c | run:--seed | run:--time | run:-t | run:--timeout | run:--restart | run:--control-rate) ;;
	run:--snapshot-at | restore:--rate | restore:-r | restore:--time | restore:-t | restore:--timeout | serve:--rate | serve:-r | serve:--guests | serve:-g | serve:--uid | serve:-u | serve:--deadline | serve:-d | keep:--wait | keep:-w) ;;
	migrate:--bulk | migrate:-b | migrate:--urgent | migrate:-u | migrate:--level | migrate:-l | migrate:--rate | migrate:-r | migrate:--downtime | migrate:-d | migrate:--rounds | migrate:--limit | migrate:--throttle | migrate:--memory-max | migrate:-m | migrate:--time | migrate:-t | migrate:--timeout) ;;
	run:--control) mapfile -t COMPREPLY < <(compgen -W 'safe all' -- "$current") ;;
	*)
		case ${COMP_WORDS[1]}:$current in
		*:-*) mapfile -t COMPREPLY < <(compgen -W "$(_guestmem_options "${COMP_WORDS[1]}")" -- "$current") ;;
		exec:*) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
		migrate:*) mapfile -t COMPREPLY < <(compgen -f -W 'send listen status cancel postcopy stop resume reclaim force give-up' -- "$current") ;;
		run:*) mapfile -t COMPREPLY < <(compgen -f -W 'touch chase stream store stamp replay control' -- "$current") ;;
		map:* | tables:* | keep:* | restore:* | serve:* | snapshot:* | verify:* | convert:* | wset:*) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
		inspect:*) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current") ;;
		esac
		;;
	esac
}

complete -F _guestmem guestmem
