# shellcheck shell=bash
# What aws/deploy and aws/rollback share.

stack=${STACK:-fibstack} dry_run=''

fail() {
	printf '%s\n' "$@" >&2
	exit 1
}
usage() { # SCRIPT
	sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$(basename "$1")" >&2
	exit 2
}
need_aws() {
	command -v aws >/dev/null || fail "The AWS CLI is needed, version 1 or 2."
	aws sts get-caller-identity >/dev/null || fail "No credentials for AWS: aws configure sso, or set AWS_PROFILE."
}

output() { # NAME of an output of the stack
	local value
	value=$(aws cloudformation describe-stacks --stack-name "$stack" \
		--query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue | [0]" --output text) ||
		fail "The stack $stack is not there. Make it from aws/cloudformation.yaml first: see docs/beanstalk.md."
	[ "$value" != None ] || fail "The stack $stack has no output $1. Update it from aws/cloudformation.yaml."
	echo "$value"
}
version() { # APPLICATION LABEL: the label, or None
	aws elasticbeanstalk describe-application-versions --application-name "$1" --version-labels "$2" \
		--query 'ApplicationVersions[0].VersionLabel' --output text
}
environment() { # FIELD of the environment, or None
	aws elasticbeanstalk describe-environments --environment-names "$(output EnvironmentName)" --no-include-deleted \
		--query "Environments[0].$1" --output text
}
parameters() { # the stack's own, as they are, but for the version
	aws cloudformation describe-stacks --stack-name "$stack" --output text \
		--query "Stacks[0].Parameters[?ParameterKey!='VersionLabel'].ParameterKey" |
		tr '\t' '\n' | sed -n 's/.*[^[:space:]].*/ParameterKey=&,UsePreviousValue=true/p'
}

# Has the stack run the version, and waits until its environment is well. The stack makes the environment the first
# time; and as it knows the version, a later change of the stack does not bring back an old one.
run_version() { # LABEL
	local label=$1 name begin answer state seen='' deadline health
	name=$(output EnvironmentName)
	if [ -n "$dry_run" ]; then
		echo "Would run the version $label in $name, by the parameter VersionLabel of the stack $stack. Now: $(environment VersionLabel)"
		return
	fi
	begin=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	mapfile -t parameters < <(parameters)
	echo "Running the version $label in $name"
	if ! answer=$(aws cloudformation update-stack --stack-name "$stack" --use-previous-template \
		--capabilities CAPABILITY_IAM --parameters "ParameterKey=VersionLabel,ParameterValue=$label" "${parameters[@]}" 2>&1); then
		[[ $answer = *"No updates are to be performed"* ]] || fail "$answer"
		echo "It runs already."
	fi

	deadline=$((SECONDS + ${TIMEOUT:-1800}))
	while :; do
		events "$name" "$begin"
		state=$(aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].StackStatus' --output text)
		health=$(environment "[Status,Health,VersionLabel] | join(' ', @)")
		case $state in
		*ROLLBACK_COMPLETE | *FAILED) give_up "The stack is in the state $state." ;;
		*_COMPLETE) [ "$health" != "Ready Green $label" ] || break ;;
		esac
		[ $SECONDS -lt $deadline ] || give_up "Not well after ${TIMEOUT:-1800} seconds: stack $state, environment $health."
		sleep "${INTERVAL:-5}"
	done
	echo "Green: http://$(environment CNAME)"
}

# Those that are new, oldest first. It remembers them in `seen`.
events() { # ENVIRONMENT SINCE
	local line
	while read -r line; do
		[[ $line != None && $'\n'$seen$'\n' != *$'\n'"$line"$'\n'* ]] || continue
		echo "  $line"
		seen+=$'\n'$line
	done < <(aws elasticbeanstalk describe-events --environment-name "$1" --start-time "$2" --max-items 100 \
		--query 'reverse(Events)[].[EventDate, Severity, Message]' --output text)
}

give_up() { # WHY
	echo "$1" >&2
	aws elasticbeanstalk describe-environment-health --environment-name "$(output EnvironmentName)" \
		--attribute-names Causes --query 'Causes[]' --output text >&2 || true
	fail "The causes, if any, are above. What to look at:" \
		"  events   aws cloudformation describe-stack-events --stack-name $stack" \
		"  logs     CloudWatch, /aws/elasticbeanstalk/$(output EnvironmentName)/…, the last lines of each container" \
		"  back     aws/rollback"
}
