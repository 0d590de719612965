// Command ecs says how ECS runs a Dockerrun.aws.json on an instance of Elastic Beanstalk: it prints, in the order of the
// links, one line of shell words for every container, which are its name and the arguments of docker create.
//
//	ecs FILE NAME_PREFIX PORT_OFFSET [OPTION...]
//
// The containers are on Docker's default bridge, so links are the only names they know of each other. The name of a
// container is its name in the file behind NAME_PREFIX. The offset is added to its host ports, which are those of
// 127.0.0.1, for one machine may have more to do than to be an instance. The options of docker create are given to all
// containers, as Beanstalk gives its environment properties to all. A key in the file that is not known here is an
// error, so that nothing in it stays untried.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Dockerrun is version 2 of the file.
type Dockerrun struct {
	Version          int         `json:"AWSEBDockerrunVersion"`
	ExecutionRoleARN string      `json:"executionRoleArn"` // with which ECS reads the secrets among the properties
	Containers       []Container `json:"containerDefinitions"`
}

// Container has the part of ECS's container definition that is used here. Memory is in MiB, times are in seconds.
type Container struct {
	Name              string   `json:"name"`
	Image             string   `json:"image"`
	Essential         bool     `json:"essential"`
	CPU               int      `json:"cpu"` // a share; 1024 stand for one CPU
	Memory            int      `json:"memory"`
	MemoryReservation int      `json:"memoryReservation"`
	Hostname          string   `json:"hostname"`
	Links             []string `json:"links"`
	Command           []string `json:"command"`
	PortMappings      []struct {
		HostPort      int `json:"hostPort"`
		ContainerPort int `json:"containerPort"`
	} `json:"portMappings"`
	Environment []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"environment"`
	Ulimits []struct {
		Name      string `json:"name"`
		SoftLimit int    `json:"softLimit"`
		HardLimit int    `json:"hardLimit"`
	} `json:"ulimits"`
	ReadonlyRootFilesystem bool `json:"readonlyRootFilesystem"`
	LinuxParameters        struct {
		Capabilities struct {
			Drop []string `json:"drop"`
		} `json:"capabilities"`
		Tmpfs []struct {
			ContainerPath string `json:"containerPath"`
			Size          int    `json:"size"`
		} `json:"tmpfs"`
	} `json:"linuxParameters"`
	HealthCheck *struct {
		Command     []string `json:"command"`
		Interval    int      `json:"interval"`
		Timeout     int      `json:"timeout"`
		Retries     int      `json:"retries"`
		StartPeriod int      `json:"startPeriod"`
	} `json:"healthCheck"`
	StopTimeout      int `json:"stopTimeout"`
	LogConfiguration struct {
		LogDriver string            `json:"logDriver"`
		Options   map[string]string `json:"options"`
	} `json:"logConfiguration"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	const needed = 3
	if len(args) < needed {
		return errors.New("usage: ecs FILE NAME_PREFIX PORT_OFFSET [OPTION...]")
	}
	offset, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("PORT_OFFSET: %w", err)
	}
	file, err := Read(args[0])
	if err != nil {
		return err
	}
	order, err := file.StartOrder()
	if err != nil {
		return err
	}
	for _, c := range order {
		words := []string{quote(args[1] + c.Name)}
		for _, word := range c.CreateArgs(args[1], offset, args[needed:]) {
			words = append(words, quote(word))
		}
		fmt.Println(strings.Join(words, " "))
	}
	return nil
}

// Read reads a file. A key that Dockerrun does not have is an error.
func Read(path string) (Dockerrun, error) {
	file, err := os.Open(path) //nolint:gosec // the caller's own file
	if err != nil {
		return Dockerrun{}, err
	}
	defer file.Close()
	var d Dockerrun
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return Dockerrun{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// StartOrder returns the containers so that each comes after those it links to.
func (d Dockerrun) StartOrder() ([]Container, error) {
	var order []Container
	started := map[string]bool{}
	for len(order) < len(d.Containers) {
		before := len(order)
		for _, c := range d.Containers {
			if started[c.Name] || !c.linksAre(started) {
				continue
			}
			started[c.Name] = true
			order = append(order, c)
		}
		if len(order) == before {
			return nil, errors.New("links: a circle, a container that is not there, or a name twice")
		}
	}
	return order, nil
}

func (c Container) linksAre(started map[string]bool) bool {
	for _, link := range c.Links {
		if target, _, _ := strings.Cut(link, ":"); !started[target] {
			return false
		}
	}
	return true
}

// CreateArgs returns what follows docker create.
func (c Container) CreateArgs(prefix string, portOffset int, options []string) []string {
	args := []string{
		"--name", prefix + c.Name,
		"--hostname", c.Hostname,
		"--cpu-shares", strconv.Itoa(c.CPU),
		"--memory", fmt.Sprintf("%dm", c.Memory),
		"--memory-reservation", fmt.Sprintf("%dm", c.MemoryReservation),
		"--stop-timeout", strconv.Itoa(c.StopTimeout),
		"--log-driver", c.LogConfiguration.LogDriver,
	}
	add := func(option, format string, values ...any) {
		args = append(args, option, fmt.Sprintf(format, values...))
	}
	for name, value := range c.LogConfiguration.Options {
		add("--log-opt", "%s=%s", name, value)
	}
	for _, link := range c.Links {
		target, alias, found := strings.Cut(link, ":")
		if !found {
			alias = target
		}
		add("--link", "%s%s:%s", prefix, target, alias)
	}
	for _, p := range c.PortMappings {
		add("--publish", "127.0.0.1:%d:%d", p.HostPort+portOffset, p.ContainerPort)
	}
	for _, u := range c.Ulimits {
		add("--ulimit", "%s=%d:%d", u.Name, u.SoftLimit, u.HardLimit)
	}
	for _, capability := range c.LinuxParameters.Capabilities.Drop {
		add("--cap-drop", "%s", capability)
	}
	for _, t := range c.LinuxParameters.Tmpfs {
		add("--tmpfs", "%s:size=%dm", t.ContainerPath, t.Size)
	}
	if c.ReadonlyRootFilesystem {
		args = append(args, "--read-only")
	}
	if h := c.HealthCheck; h != nil {
		// ECS's CMD is a list of words, of which docker create makes one for a shell; the programs have none. The images'
		// own checks are the same commands, which a test holds, so only the times are set here.
		add("--health-interval", "%ds", h.Interval)
		add("--health-timeout", "%ds", h.Timeout)
		add("--health-retries", "%d", h.Retries)
		add("--health-start-period", "%ds", h.StartPeriod)
	}
	args = append(args, options...)
	for _, variable := range c.Environment {
		add("--env", "%s=%s", variable.Name, variable.Value)
	}
	args = append(args, c.Image)
	return append(args, c.Command...)
}

// quote makes one word of a shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
