#!/bin/bash
# mqadmin.sh COMMAND ARGS...   about 5 s a call: few calls, or a client's own admin requests
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.home=/tmp -Drocketmq.home.dir=/opt/rocketmq \
  -Drmq.logback.configurationFile=/opt/rocketmq/conf/logback.xml \
  -cp "/opt/rocketmq/lib/*" org.apache.rocketmq.tools.command.MQAdminStartup "$@"
