#!/bin/sh
# Makes the bucket for evidence and artifacts, if there is none.
#   bucket.sh ENDPOINT BUCKET
set -eu
endpoint=$1 bucket=$2
# Of nothing, which is what these requests carry; older versions of curl do not say so by themselves.
empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
request() {
  curl -sS --output /dev/null --write-out '%{http_code}' --max-time 20 --retry 10 --retry-connrefused --retry-delay 2 \
    --header "x-amz-content-sha256: $empty" --config "${AEGIS_SECRETS:-/run/secrets}/curl" \
    --aws-sigv4 "aws:amz:${AEGIS_S3_REGION:-us-east-1}:s3" "$@"
}
if [ "$(request --head "$endpoint/$bucket")" = 200 ]; then
  echo "the bucket $bucket is there"
  exit 0
fi
status=$(request --request PUT "$endpoint/$bucket")
case $status in
  200 | 409) echo "the bucket $bucket is there now" ;;
  *) echo "the store answers $status to the making of the bucket $bucket" >&2; exit 1 ;;
esac
